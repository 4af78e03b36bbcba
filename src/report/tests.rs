use super::*;
use crate::inventory::parse;

const HOSTILE: &str = r#"version = 1

[[entry]]
url = "https://h.test/a?q=</script><script>hacked()</script>"
status = 404
body = { hash = "sha256-CYUd3HlmFaQxOjySCPcsC9nfv8lKeGnN64wIGeKVTAc=", size = 9, text = "</script><!--<script>\u2028@data@" }
[entry.headers]
x-evil = "</style><img src=x onerror=hacked()>"
"#;

fn page(title: &str, inventory: &Inventory) -> String {
    Page::new(title.to_owned(), inventory, LastRuns::default(), None).to_html().unwrap()
}

/// What stands between `start` and `end`.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    text.split_once(start).unwrap().1.split_once(end).unwrap().0
}

#[test]
fn the_data_comes_out_as_it_went_in() {
    let html = page("inventory.toml", &parse(HOSTILE).unwrap());
    let data: Value = serde_json::from_str(between(&html, r#"id="data">"#, "</script>")).unwrap();
    assert_eq!(data["entries"][0]["text"], "</script><!--<script>\u{2028}@data@");
    assert_eq!(data["entries"][0]["headers"]["x-evil"][0], "</style><img src=x onerror=hacked()>");
    assert_eq!(data["entries"][0]["why"], "the status is not 200, and Nix keeps nothing else (status)");
}

#[test]
fn nothing_of_an_origin_becomes_markup() {
    let plain = page("inventory.toml", &Inventory::default());
    let html = page("</title><script>hacked()</script>", &parse(HOSTILE).unwrap());
    assert_eq!(html.matches('<').count(), plain.matches('<').count(), "no element more");
    assert!(!html.contains('\u{2028}'));
}

#[test]
fn the_policy_names_the_very_script_and_style_of_the_page() {
    let html = page("inventory.toml", &Inventory::default());
    let policy = between(&html, r#"Content-Security-Policy" content=""#, "\"");
    for (directive, block) in [
        ("script-src", html.rsplit_once("<script>").unwrap().1.split_once("</script>").unwrap().0),
        ("style-src", between(&html, "<style>", "</style>")),
    ] {
        let hash = BASE64.encode(&Sha256::digest(block));
        assert!(policy.contains(&format!("{directive} 'sha256-{hash}'")), "{policy}");
    }
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
}

#[test]
fn the_script_and_the_style_can_stand_in_their_elements() {
    assert!(!SCRIPT.contains("</script") && !SCRIPT.contains("<!--") && !STYLE.contains("</style"));
    assert_eq!(PAGE.split('@').count() % 2, 1, "every name ends");
    assert!(
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            .iter()
            .all(|bad| !SCRIPT.contains(bad))
    );
}
