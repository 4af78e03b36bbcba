//! A request's target, as the proxy reads it and replay compares it.

#![no_main]

use buildproxy_fuzz::{
    proxy::target::{Arrival, effective_uri},
    url::{NormalizedUrl, without_userinfo},
};
use http::{Request, Uri};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _shown = without_userinfo(text);
        if let Ok(url) = text.parse::<NormalizedUrl>() {
            check(&url);
        }
    }
    let Ok(target) = Uri::try_from(bytes) else { return };
    let Ok(request) = Request::get(target).header("host", "h.test").body(()) else { return };
    let Ok(effective) = effective_uri(&request, &Arrival::at(([127, 0, 0, 1], 8080).into())) else { return };
    let Ok(url) = effective.to_string().parse::<NormalizedUrl>() else { return };
    check(&url);
    // What was recorded can be asked for as it stands in the inventory.
    let again: Uri = url.as_str().parse().unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(again.to_string().parse(), Ok(url));
});

fn check(url: &NormalizedUrl) {
    let text = url.as_str();
    assert_eq!(text.parse().as_ref(), Ok(url), "normalising twice changes nothing");
    assert_eq!(url.join(text).as_ref(), Ok(url), "it leads from itself to itself");
    assert_eq!(url.join("").as_ref(), Ok(url));

    let scheme = text.split("://").next().unwrap_or_default();
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    assert_eq!(format!("{scheme}://{}{}{query}", url.authority(), url.path()), text, "its parts make the whole");
    assert!(matches!(scheme, "http" | "https") && url.path().starts_with('/'));
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
    assert!(!url.authority().contains('@'));

    assert_eq!(&url.without_query_parameters(|_| false), url);
    assert_eq!(url.without_query_parameters(|_| true).query(), None);
    assert!(!url.store_path_name().as_str().is_empty());
}
