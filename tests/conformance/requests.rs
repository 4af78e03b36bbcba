//! Requests with all that RFC 9110 §13 and §14 know, valid and not, in random mixtures.

use proptest::{
    collection::vec,
    option::weighted,
    prelude::{Just, Strategy, any},
    prop_oneof,
    sample::select,
};

use crate::common::{http1::Answer, peer::Peer};

/// When the files that are asked for were modified, in the three forms of a date (RFC 9110 §5.6.7).
pub const MODIFIED: [&str; 3] =
    ["Tue, 02 Jan 2024 00:00:00 GMT", "Tuesday, 02-Jan-24 00:00:00 GMT", "Tue Jan  2 00:00:00 2024"];
pub const BEFORE: [&str; 3] =
    ["Mon, 01 Jan 2024 23:59:59 GMT", "Monday, 01-Jan-24 23:59:59 GMT", "Mon Jan  1 23:59:59 2024"];
const AFTER: [&str; 3] =
    ["Tue, 02 Jan 2024 00:00:01 GMT", "Tuesday, 02-Jan-24 00:00:01 GMT", "Tue Jan  2 00:00:01 2024"];
const FAR: [&str; 2] = ["Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 2060 23:59:59 GMT"];
/// What is no date; nginx takes some of them for one.
const NO_DATE: [&str; 7] = [
    "yesterday",
    "0",
    "",
    "Tue, 02 Jan 2024 00:00:00",
    "Tue, 02 Jan 2024 00:00:00 +0000",
    "Tue, 32 Jan 2024 00:00:00 GMT",
    "2024-01-02T00:00:00Z",
];

/// Whether `text` is one of the dates above.
pub fn is_date(text: &str) -> bool {
    [MODIFIED, BEFORE, AFTER].concat().contains(&text) || FAR.contains(&text)
}

#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    /// Names in lower case.
    pub fields: Vec<(&'static str, String)>,
}

impl Request {
    pub fn send(&self, peer: &mut Peer, path: &str) -> Answer {
        let lines: Vec<String> = self.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        peer.ask(self.method, path, &lines)
    }
}

/// Requests for a body of `size` bytes with the entity tag `etag`.
pub fn requests(size: u64, etag: &str) -> impl Strategy<Value = Request> + use<> {
    let fields = [
        ("range", 0.7, range(size).boxed()),
        ("if-range", 0.3, prop_oneof![tag(etag), date()].boxed()),
        ("if-match", 0.15, tags(etag).boxed()),
        ("if-none-match", 0.2, tags(etag).boxed()),
        ("if-modified-since", 0.2, date().boxed()),
        ("if-unmodified-since", 0.15, date().boxed()),
    ];
    let lines = |(name, often, value): (&'static str, f64, proptest::strategy::BoxedStrategy<String>)| {
        // Now and then a field comes twice.
        let values = prop_oneof![20 => vec(value.clone(), 1), 1 => vec(value, 2)];
        weighted(often, values).prop_map(move |values| {
            values.unwrap_or_default().into_iter().map(|value| (name, value)).collect::<Vec<_>>()
        })
    };
    let fields = fields.map(lines).into_iter().collect::<Vec<_>>().prop_map(|fields| fields.concat());
    (prop_oneof![4 => Just("GET"), 1 => Just("HEAD")], fields).prop_map(|(method, fields)| Request { method, fields })
}

fn date() -> impl Strategy<Value = String> + use<> {
    prop_oneof![
        3 => select(&MODIFIED[..]),
        1 => select(&BEFORE[..]),
        1 => select(&AFTER[..]),
        1 => select(&FAR[..]),
        1 => select(&NO_DATE[..]),
    ]
    .prop_map(str::to_owned)
}

fn tag(etag: &str) -> impl Strategy<Value = String> + use<> {
    let bare = etag.trim_matches('"');
    prop_oneof![
        4 => Just(etag.to_owned()),
        1 => Just(format!("W/{etag}")),
        1 => Just("\"other\"".to_owned()),
        1 => Just("W/\"other\"".to_owned()),
        1 => select(vec![
            "*".to_owned(),
            String::new(),
            "\"\"".to_owned(),
            "\"a, b\"".to_owned(),
            bare.to_owned(),
            format!("\"{bare}"),
            format!("{bare}\""),
            format!("{etag}x"),
            format!("w/{etag}"),
            format!("\"x,{bare}\""),
        ]),
    ]
}

fn tags(etag: &str) -> impl Strategy<Value = String> + use<> {
    let separator = select(vec![",", ", ", " , ", ",,", ",\t"]);
    let list = (vec(tag(etag), 1..4), separator).prop_map(|(tags, separator)| tags.join(separator));
    prop_oneof![1 => Just("*".to_owned()), 6 => list]
}

fn number(size: u64) -> impl Strategy<Value = String> + use<> {
    let near = [0, 1, size / 2, size.saturating_sub(2), size.saturating_sub(1), size, size + 1];
    prop_oneof![
        4 => (0..size + 3).prop_map(|number| number.to_string()),
        4 => select(near.to_vec()).prop_map(|number| number.to_string()),
        1 => any::<u32>().prop_map(|number| format!("00{number}")),
        1 => select(vec!["9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616",
                         "99999999999999999999999999"]).prop_map(str::to_owned),
    ]
}

fn range(size: u64) -> impl Strategy<Value = String> + use<> {
    let spec = prop_oneof![
        4 => (number(size), number(size)).prop_map(|(first, last)| format!("{first}-{last}")),
        2 => number(size).prop_map(|first| format!("{first}-")),
        2 => number(size).prop_map(|length| format!("-{length}")),
    ];
    let short = (0..size + 2, 0..50u64).prop_map(|(first, more)| format!("{first}-{}", first + more));
    let separator = select(vec![",", ",", ", ", " , ", ",,", ",\t"]);
    let several = (vec(prop_oneof![6 => short, 1 => spec.clone()], 2..7), separator)
        .prop_map(|(specs, separator)| format!("bytes={}", specs.join(separator)));
    let many = (200..300usize).prop_map(|count| format!("bytes={}", vec!["0-0"; count].join(",")));
    let odd = select(vec![
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=--1",
        "bytes=a-b",
        "bytes=1",
        "bytes=9-5",
        "bytes=9-5,0-1",
        "bytes=0-1,",
        "bytes=,0-1",
        "bytes= 0-1",
        "bytes=0-1 ",
        "bytes=0 -1",
        "bytes=0- 1",
        "bytes =0-1",
        "Bytes=0-1",
        "bytes=+0-1",
        "bytes=0-+1",
        "bytes=0x0-1",
        "bytes=1-2-3",
        "bytes=0-1;q=1",
        "bytes=0-1/5",
        "bytes 0-1",
        "bytes:0-1",
        "items=0-1",
        "seconds=0-",
        "0-1",
        "none",
        "",
    ]);
    prop_oneof![
        8 => spec.prop_map(|spec| format!("bytes={spec}")),
        6 => several,
        1 => many,
        3 => odd.prop_map(str::to_owned),
        2 => "bytes=[0-9, -]{0,12}",
    ]
}
