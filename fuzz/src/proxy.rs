#[path = "../../src/proxy/authority.rs"]
mod authority;
#[path = "../../src/proxy/hop_by_hop.rs"]
pub mod hop_by_hop;
#[path = "../../src/proxy/target.rs"]
pub mod target;
