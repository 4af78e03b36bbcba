//! An archive: what is read of it, however damaged, has safe names and is written as the same bytes.

#![no_main]

use buildproxy_fuzz::store::nar::{
    Node,
    reader::{ReadError, Reader, Step},
    writer::Writer,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match copy(bytes) {
        Ok(copy) => assert_eq!(copy, bytes, "there is one spelling"),
        Err(error) => {
            let _shown = error.to_string();
            let (ReadError::Input { offset, .. } | ReadError::Fault { offset, .. }) = error else { panic!("{error}") };
            assert!(offset <= bytes.len() as u64, "byte {offset} of {}", bytes.len());
        }
    }
});

/// Writes what is read.
fn copy(bytes: &[u8]) -> Result<Vec<u8>, ReadError> {
    let (mut reader, mut copy, mut buffer) = (Reader::new(bytes), Vec::new(), [0; 64]);
    let mut writer = Writer::new(&mut copy).expect("memory takes everything");
    let mut open = Vec::new();
    while let Some(step) = reader.step()? {
        let path = reader.path().to_vec();
        match step {
            Step::Enter(node) => {
                check(&reader, open.last());
                writer.enter(reader.name(), &node).expect("memory takes everything");
                let (mut left, is_file) = match node {
                    Node::File { size, .. } => (size, true),
                    _ => (0, false),
                };
                loop {
                    let count = reader.read_contents(&mut buffer)?;
                    if count == 0 {
                        break;
                    }
                    assert!(is_file);
                    left -= count as u64;
                    writer.contents(&buffer[..count]).expect("memory takes everything");
                }
                assert_eq!(left, 0, "a file has the size that it was said to have");
                open.push(path);
            }
            Step::Leave => {
                assert_eq!(open.pop(), Some(path), "what was entered last is left first");
                writer.leave().expect("memory takes everything");
            }
        }
    }
    assert!(open.is_empty());
    Ok(copy)
}

/// A node is directly in the folder that is open, under a name that leads nowhere else.
fn check(reader: &Reader<&[u8]>, folder: Option<&Vec<u8>>) {
    let (path, name) = (reader.path(), reader.name());
    let Some(folder) = folder else { return assert_eq!((path, name), (b"".as_slice(), b"".as_slice())) };
    assert!(!matches!(name, b"" | b"." | b"..") && !name.contains(&b'/') && !name.contains(&0));
    assert!(name.len() <= 255 && path.len() <= 4095);
    let expected = if folder.is_empty() { name.to_vec() } else { [folder, b"/".as_slice(), name].concat() };
    assert_eq!(path, expected);
}
