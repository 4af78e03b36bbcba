#[path = "../../src/capture/policy.rs"]
pub mod policy;

mod origin {
    /// What the origin was asked is no matter here.
    pub fn is_replaced(_: &str) -> bool {
        false
    }
}
