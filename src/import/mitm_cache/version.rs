//! Versions in Nix's order.

use std::cmp::Ordering;

/// Compares as `builtins.compareVersions` does (`src/libstore/names.cc` of Nix).
pub fn compare(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (one, other) = (component(&mut a), component(&mut b));
        if is_less(one, other) {
            return Ordering::Less;
        }
        if is_less(other, one) {
            return Ordering::Greater;
        }
    }
    Ordering::Equal
}

/// Takes the next run of digits, or of what is neither a digit nor a separator.
fn component<'a>(text: &mut &'a str) -> &'a str {
    let rest = text.trim_start_matches(['.', '-']);
    let is_number = rest.starts_with(|first: char| first.is_ascii_digit());
    let ends = |next: char| next.is_ascii_digit() != is_number || matches!(next, '.' | '-');
    let (component, rest) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
    *text = rest;
    component
}

fn is_less(a: &str, b: &str) -> bool {
    // One that is too large is a text for Nix, too.
    match (a.parse::<i32>(), b.parse::<i32>()) {
        (Ok(a), Ok(b)) => a < b,
        (Err(_), Ok(_)) if a.is_empty() => true,
        _ if a == "pre" && b != "pre" => true,
        _ if b == "pre" => false,
        // 2.3a comes before 2.3.1.
        (_, Ok(_)) => true,
        (Ok(_), _) => false,
        _ => a < b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_of_the_manual_of_nix() {
        for (less, more) in [
            ("1.0", "2.3"),
            ("2.3a", "3.1"),
            ("2.3", "2.3.1"),
            ("2.3a", "2.3.1"),
            ("2.3pre1", "2.3"),
            ("2.3pre3", "2.3pre12"),
        ] {
            assert_eq!(
                (compare(less, more), compare(more, less)),
                (Ordering::Less, Ordering::Greater),
                "{less} {more}"
            );
        }
        assert_eq!(compare("1.0-rc", "1..0-rc"), Ordering::Equal);
    }
}
