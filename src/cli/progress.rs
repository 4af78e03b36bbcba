//! What a capture tells of downloads that take long, in whole lines: the command writes to the same terminal, so nothing
//! here can be drawn over.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::output;
use crate::{
    capture::{Coming, Stopwatch},
    text::printable,
};

/// How long a download may take before it is worth a line, in milliseconds.
const LONG: u64 = 1000;
/// How long the next line waits, which is twice as long each time, up to the second.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(16)];
/// Downloads that are named in a line.
const NAMED: usize = 3;

/// Tells, for ever, what takes long.
pub async fn tell(stopwatch: Arc<Stopwatch>) {
    let mut pause = PAUSES[0];
    loop {
        sleep_until(Instant::now() + pause).await;
        match line(&stopwatch.downloads()) {
            Some(line) => {
                output::done("receiving", line);
                pause = (pause * 2).min(PAUSES[1]);
            }
            None => pause = PAUSES[0],
        }
    }
}

/// `1.2 GiB of 4 GiB (30%, 24 MiB/s) from example.org; and 2 more`.
fn line(downloads: &[Coming]) -> Option<String> {
    let mut long: Vec<&Coming> = downloads.iter().filter(|download| download.time >= LONG).collect();
    // The one that will take longest first.
    long.sort_by_key(|download| std::cmp::Reverse(download.size.unwrap_or(u64::MAX).saturating_sub(download.bytes)));
    let named: Vec<String> = long.iter().take(NAMED).map(|download| one(download)).collect();
    let more = match long.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    (!named.is_empty()).then(|| named.join("; ") + &more)
}

fn one(download: &Coming) -> String {
    let rate = output::bytes(download.bytes.saturating_mul(1000) / download.time.max(1));
    let share = |size: u64| u128::from(download.bytes) * 100 / u128::from(size.max(1));
    let size = match download.size {
        Some(size) => format!(" of {} ({}%, {rate}/s)", output::bytes(size), share(size)),
        None => format!(" ({rate}/s)"),
    };
    let host = download.url.split('/').nth(2).unwrap_or_default();
    format!("{}{size} from {}", output::bytes(download.bytes), printable(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coming(url: &str, bytes: u64, size: Option<u64>, time: u64) -> Coming {
        Coming { url: url.to_owned(), bytes, size, time }
    }

    #[test]
    fn what_takes_long_is_told_the_longest_first() {
        let mib = 1 << 20;
        let downloads = [
            coming("https://short.test/a", mib, Some(2 * mib), 999),
            coming("https://some.test/a", 30 * mib, Some(120 * mib), 3000),
            coming("https://more.test:8443/b?x", 5 * mib, None, 10_000),
        ];
        assert_eq!(
            line(&downloads).as_deref(),
            Some(
                "5.00 MiB (512.00 KiB/s) from more.test:8443; 30.00 MiB of 120.00 MiB (25%, 10.00 MiB/s) from \
                 some.test"
            )
        );
        assert_eq!(line(&downloads[..1]), None);
        let many = vec![coming("https://h.test/", 0, Some(0), 2000); 5];
        assert!(line(&many).unwrap().ends_with("; and 2 more"), "{:?}", line(&many));
    }
}
