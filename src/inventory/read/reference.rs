//! The tables of docs/inventory.md, made from the types that read an inventory: a row for each field, with what its
//! documentation says.

use std::{collections::BTreeMap, fs, path::Path};

use syn::{Attribute, Expr, Fields, GenericArgument, Item, Lit, Meta, PathArguments, Type};

/// The files of those types.
const SOURCES: [&str; 3] = [include_str!("raw.rs"), include_str!("rules.rs"), include_str!("../request_body/mod.rs")];

/// The headings of the tables, each with the type that the table is of.
const TABLES: [(&str, &str); 6] = [
    ("## At the top", "RawInventory"),
    ("## `[match]`", "RawMatch"),
    ("### A rule of `rewrite`", "RawRewrite"),
    ("## `[[entry]]`", "RawEntry"),
    ("### A hop of `redirects`", "RawHop"),
    ("### `body`", "RawBody"),
];

const HEAD: &str = "| key | type | default | means |\n| --- | --- | --- | --- |\n";

#[test]
fn the_documentation_has_every_key_with_what_its_type_says() {
    let page = include_str!("../../../docs/inventory.md");
    let mut made = page.to_owned();
    for (heading, name) in TABLES {
        let section = made.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("no {heading}"));
        let start = section + made[section..].find(HEAD).unwrap_or_else(|| panic!("no table below {heading}"));
        let end = start + made[start..].find("\n\n").unwrap() + 1;
        made.replace_range(start..end, &format!("{HEAD}{}", rows(name)));
    }
    for key in keys() {
        let is_shown = |block: &str| block.contains(&format!("{key} = ")) || block.contains(&format!("{key}]"));
        let mut blocks = page.split("```toml").skip(1).map(|rest| rest.split("```").next().unwrap());
        assert!(blocks.any(is_shown), "no example has {key}");
    }
    if made != page {
        let copy = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/inventory.md");
        fs::write(&copy, made).unwrap();
        panic!("docs/inventory.md is not what the types say: cp target/inventory.md docs/inventory.md");
    }
}

fn keys() -> Vec<String> {
    TABLES.iter().flat_map(|(_, name)| fields(name)).map(|(key, ..)| key).collect()
}

/// The rows of the table of the type `name`.
fn rows(name: &str) -> String {
    let row = |(key, kind, text): (String, String, String)| {
        let (means, absent) = text.split_once("\n\nAbsent: ").unwrap_or((&text, ""));
        // The whole page begins its cells in lower case, and ends them without a full stop.
        let means = means.trim().trim_end_matches('.').replace('\n', " ");
        let first = means.chars().next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
        let means = if means.starts_with('`') { means } else { first + &means[1..] };
        format!("| `{key}` | {kind} | {} | {means} |\n", absent.trim().trim_end_matches('.'))
    };
    fields(name).into_iter().map(row).collect::<String>().replace("|  |", "| |")
}

/// Each field of the type `name`: its key, its type in words, its documentation.
fn fields(name: &str) -> Vec<(String, String, String)> {
    let items: Vec<Item> = SOURCES.iter().flat_map(|source| syn::parse_file(source).unwrap().items).collect();
    let found = items.iter().find_map(|item| match item {
        Item::Struct(found) if found.ident == name => Some(found),
        _ => None,
    });
    let Fields::Named(fields) = &found.unwrap_or_else(|| panic!("no struct {name}")).fields else { panic!("{name}") };
    let field = |field: &syn::Field| {
        let key = field.ident.as_ref().unwrap().to_string().trim_start_matches("r#").replace('_', "-");
        let serde = attribute(&field.attrs, "serde");
        let has_to_be = !is_optional(&field.ty) && !serde.contains("default");
        let mut text = documentation(&field.attrs);
        assert!(!text.is_empty(), "{name}.{key} has no documentation");
        assert_eq!(
            has_to_be,
            !text.contains("Absent: ") && !is_optional(&field.ty),
            "{name}.{key}: what if it is absent?"
        );
        if has_to_be {
            text.push_str("\n\nAbsent: has to be there");
        }
        (key, in_words(&field.ty, &serde, &items), text)
    };
    fields.named.iter().map(field).collect()
}

fn documentation(attributes: &[Attribute]) -> String {
    let line = |attribute: &Attribute| match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    attributes.iter().filter_map(line).collect::<Vec<_>>().join("\n")
}

fn attribute(attributes: &[Attribute], name: &str) -> String {
    let tokens = |attribute: &Attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident(name) => Some(list.tokens.to_string()),
        _ => None,
    };
    attributes.iter().filter_map(tokens).collect()
}

/// The name of a type, and its first argument.
fn parts(kind: &Type) -> (String, Option<&Type>) {
    let Type::Path(path) = kind else { panic!("a field that is neither of a struct nor of an enum") };
    let last = path.path.segments.last().unwrap();
    let argument = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments.args.iter().find_map(|argument| match argument {
            GenericArgument::Type(kind) => Some(kind),
            _ => None,
        }),
        _ => None,
    };
    (last.ident.to_string(), argument)
}

fn is_optional(kind: &Type) -> bool {
    parts(kind).0 == "Option"
}

/// What stands in the file for a value of the type `kind`.
fn in_words(kind: &Type, serde: &str, items: &[Item]) -> String {
    let (name, argument) = parts(kind);
    let range = BTreeMap::from([("final_status", "200 to 599"), ("redirect_status", "300 to 399")]);
    let range = range.iter().find(|(check, _)| serde.contains(*check)).map(|(_, range)| format!(", {range}"));
    match (name.as_str(), argument) {
        ("Option", Some(inner)) => in_words(inner, serde, items),
        ("Vec", Some(inner)) => match &*parts(inner).0 {
            "System" | "QueryPattern" => "array of texts".to_owned(),
            _ => "array of tables".to_owned(),
        },
        ("i64" | "u16" | "u64", _) => format!("integer{}", range.unwrap_or_default()),
        ("String" | "Method" | "NormalizedUrl" | "StorePathName" | "UrlRegex", _) => "text".to_owned(),
        ("NixHash", _) => "text (SRI)".to_owned(),
        ("Headers" | "BTreeMap", _) => "table of texts".to_owned(),
        ("RawMatch" | "Body", _) => "table".to_owned(),
        // The bytes are what is meant where the key is left out.
        ("RawUrlMatch" | "BodyForm", _) => variants(items, &name, "Bytes"),
        _ => panic!("how is {name} written?"),
    }
}

/// The words of an enumeration, but for the one that has none.
fn variants(items: &[Item], name: &str, wordless: &str) -> String {
    let found = items.iter().find_map(|item| match item {
        Item::Enum(found) if found.ident == name => Some(found),
        _ => None,
    });
    let word = |variant: &syn::Variant| format!("`\"{}\"`", variant.ident.to_string().to_lowercase());
    found
        .unwrap_or_else(|| panic!("no enum {name}"))
        .variants
        .iter()
        .filter(|variant| variant.ident != wordless)
        .map(word)
        .collect::<Vec<_>>()
        .join(", ")
}
