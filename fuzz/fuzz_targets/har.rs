//! A HAR file: what is taken from it is whole and valid, and whatever else is in it is told or refused.

#![no_main]

use buildproxy_fuzz::har;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|file: &[u8]| {
    let read = har::read(file, None, |exchange| match exchange {
        Ok(heard) => {
            if let Ok(Some(body)) = &heard.body {
                assert!(body.size > 0, "an empty body is none");
                assert!(body.size <= file.len() as u64, "no byte comes from nowhere");
            }
            assert_eq!(heard.url.as_str().parse().as_ref(), Ok(&heard.url), "a URL is normal");
            assert!(heard.headers.keys().all(|name| !name.as_str().starts_with(':')));
            let forms: Vec<_> = heard.request_body.iter().map(|digest| digest.form).collect();
            assert!(forms.windows(2).all(|pair| pair[0] != pair[1]), "a digest for each form: {forms:?}");
        }
        Err(unheard) => assert!(!unheard.reason.is_empty(), "what is left out has its reason"),
    });
    if let Err(error) = read {
        let lines = file.split(|&byte| byte == b'\n').count();
        assert!(error.line() <= lines + 1, "line {} of {lines}", error.line());
        let _shown = error.to_string();
    }
});
