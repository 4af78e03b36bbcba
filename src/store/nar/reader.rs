//! Reading archives: step by step, strictly, and with little memory whatever an archive claims.
//!
//! What is accepted has one spelling: written again it has the same bytes. Nix 2.8 takes fields and names in any order,
//! and no Nix looks at what is behind the end; none writes such archives.

use std::io::{self, BufReader, Read};

use super::{MAGIC, MAX_NAME_LENGTH, MAX_PATH_LENGTH, Node, padding};

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Its bytes cannot be had.
    #[error("cannot read the archive at byte {offset}: {source}")]
    Input {
        /// Bytes that were read before.
        offset: u64,
        /// What the reader said.
        #[source]
        source: io::Error,
    },
    /// It is no archive.
    #[error("not a Nix archive, or a damaged one, at byte {offset}: {fault}")]
    Fault {
        /// Where the fault begins.
        offset: u64,
        /// What is wrong there.
        fault: Fault,
    },
}

/// What is wrong with an archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It is cut short.
    #[error("it ends too early")]
    End,
    /// Something else than the format has at this place.
    #[error("{found} where {expected} belongs")]
    Tag {
        /// What may be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A string that is longer than any can be there.
    #[error("a {what} of {length} bytes; {longest} are the most")]
    TooLong {
        /// What the string is.
        what: &'static str,
        /// Its claimed length in bytes.
        length: u64,
        /// The longest in bytes.
        longest: usize,
    },
    /// Bytes other than zero between two strings.
    #[error("bytes other than zero where strings are filled up with zeros")]
    Padding,
    /// A name that no file can have.
    #[error("`{0}` cannot be the name of a file")]
    Name(String),
    /// A name that does not come after the one before it.
    #[error("`{name}` behind `{last}`: the entries of a folder have to be sorted, each name once")]
    Order {
        /// The name.
        name: String,
        /// The one before it.
        last: String,
    },
    /// A target that no link can have.
    #[error("`{0}` cannot be the target of a link")]
    Target(String),
    /// Something behind the end.
    #[error("there are bytes behind its end")]
    Behind,
}

/// A step on the way through an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A node begins; [`Reader::path`] says where. The nodes in a folder follow.
    Enter(Node),
    /// It ends.
    Leave,
}

/// Where in an archive a reader is.
#[derive(Clone, Copy)]
enum Place {
    Start,
    /// In a folder, before an entry or its end.
    Folder,
    /// In the bytes of a file.
    Contents {
        left: u64,
        padding: usize,
    },
    /// Behind the target of a link.
    Link,
    /// Behind a node, inside of the entry that it belongs to.
    Behind,
    End,
}

/// Reads an archive step by step. It reads ahead: only an archive may be in `R`.
pub struct Reader<R> {
    input: BufReader<R>,
    offset: u64,
    place: Place,
    /// The names on the way to the current node, with `/` between them.
    path: Vec<u8>,
    /// For each of these names, how long `path` is without it.
    parents: Vec<usize>,
    /// The name before, in the folder that is being read.
    last: Vec<u8>,
}

impl<R: Read> Reader<R> {
    /// Nothing is read yet.
    pub fn new(input: R) -> Self {
        Self {
            input: BufReader::new(input),
            offset: 0,
            place: Place::Start,
            path: Vec::new(),
            parents: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Where the node of the last step is, below the outermost, whose path is empty.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// What the node of the last step is called in its folder.
    pub fn name(&self) -> &[u8] {
        let parent = self.parents.last().copied().unwrap_or(0);
        // Behind the `/`, which the names in the outermost folder have not.
        &self.path[if parent == 0 { 0 } else { parent + 1 }..]
    }

    /// Goes on to the next step; bytes of a file that were not asked for are skipped. `None` is the end, of the archive
    /// and of the input: what was read before is an archive only then.
    ///
    /// # Errors
    /// Where the input fails or is no archive; the reader is of no more use then.
    pub fn step(&mut self) -> Result<Option<Step>, ReadError> {
        match self.place {
            Place::Start => {
                self.expect(&[MAGIC])?;
                self.node().map(Some)
            }
            Place::Folder => self.entry_or_end().map(Some),
            Place::Contents { padding, .. } => {
                while self.skip_contents()? > 0 {}
                self.padding(padding)?;
                self.leave().map(Some)
            }
            Place::Link => self.leave().map(Some),
            Place::Behind => self.ascend(),
            Place::End => Ok(None),
        }
    }

    /// Bytes of the file that was entered last, as many as one read gives; 0 at its end, and where no file was entered.
    ///
    /// # Errors
    /// Where the input fails or ends.
    pub fn read_contents(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        let Place::Contents { left, padding } = self.place else { return Ok(0) };
        let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(self.fault(self.offset, Fault::End));
        }
        self.place = Place::Contents { left: left - count as u64, padding };
        Ok(count)
    }

    fn skip_contents(&mut self) -> Result<usize, ReadError> {
        self.read_contents(&mut [0; 4096])
    }

    fn node(&mut self) -> Result<Step, ReadError> {
        self.expect(&[b"("])?;
        self.expect(&[b"type"])?;
        let node = match self.expect(&[b"directory", b"regular", b"symlink"])? {
            0 => {
                self.place = Place::Folder;
                self.last.clear();
                Node::Directory
            }
            1 => self.file()?,
            _ => self.link()?,
        };
        Ok(Step::Enter(node))
    }

    fn file(&mut self) -> Result<Node, ReadError> {
        let executable = self.expect(&[b"contents", b"executable"])? == 1;
        if executable {
            self.expect(&[b""])?;
            self.expect(&[b"contents"])?;
        }
        let size = self.number()?;
        self.place = Place::Contents { left: size, padding: padding(size) };
        Ok(Node::File { executable, size })
    }

    fn link(&mut self) -> Result<Node, ReadError> {
        self.expect(&[b"target"])?;
        let offset = self.offset;
        let target = self.string("target of a link", MAX_PATH_LENGTH)?;
        if target.is_empty() || target.contains(&0) {
            return Err(self.fault(offset, Fault::Target(shown(&target))));
        }
        self.place = Place::Link;
        Ok(Node::Symlink { target })
    }

    fn entry_or_end(&mut self) -> Result<Step, ReadError> {
        if self.expect(&[b")", b"entry"])? == 0 {
            self.place = Place::Behind;
            return Ok(Step::Leave);
        }
        self.expect(&[b"("])?;
        self.expect(&[b"name"])?;
        let offset = self.offset;
        let name = self.string("file name", MAX_NAME_LENGTH)?;
        self.descend(&name).map_err(|fault| self.fault(offset, fault))?;
        self.expect(&[b"node"])?;
        self.node()
    }

    /// Checks a name, and goes to where it is.
    fn descend(&mut self, name: &[u8]) -> Result<(), Fault> {
        if matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Fault::Name(shown(name)));
        }
        if name <= self.last.as_slice() {
            return Err(Fault::Order { name: shown(name), last: shown(&self.last) });
        }
        self.parents.push(self.path.len());
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        let length = self.path.len() as u64;
        match self.path.len() > MAX_PATH_LENGTH {
            true => Err(Fault::TooLong { what: "path of folders", length, longest: MAX_PATH_LENGTH }),
            false => Ok(()),
        }
    }

    /// The end of a file or a link.
    fn leave(&mut self) -> Result<Step, ReadError> {
        self.expect(&[b")"])?;
        self.place = Place::Behind;
        Ok(Step::Leave)
    }

    /// From a node that has ended to the folder that it is in.
    fn ascend(&mut self) -> Result<Option<Step>, ReadError> {
        self.last = self.name().to_vec();
        let Some(parent) = self.parents.pop() else { return self.end() };
        self.path.truncate(parent);
        self.expect(&[b")"])?;
        self.place = Place::Folder;
        self.entry_or_end().map(Some)
    }

    fn end(&mut self) -> Result<Option<Step>, ReadError> {
        self.place = Place::End;
        let offset = self.offset;
        match self.read(&mut [0])? {
            0 => Ok(None),
            _ => Err(self.fault(offset, Fault::Behind)),
        }
    }

    /// Reads one of `tags`, and says which.
    fn expect(&mut self, tags: &[&[u8]]) -> Result<usize, ReadError> {
        let offset = self.offset;
        let longest = tags.iter().map(|tag| tag.len()).max().unwrap_or(0);
        let length = self.number()?;
        let wrong = |found| {
            let expected = tags.iter().map(|tag| format!("`{}`", shown(tag))).collect::<Vec<_>>();
            Fault::Tag { expected: expected.join(" or "), found }
        };
        if length > longest as u64 {
            return Err(self.fault(offset, wrong(format!("a string of {length} bytes"))));
        }
        let found = self.string_of(length as usize)?;
        let tag = tags.iter().position(|tag| *tag == found);
        tag.ok_or_else(|| self.fault(offset, wrong(format!("`{}`", shown(&found)))))
    }

    /// Reads a string of at most `longest` bytes.
    fn string(&mut self, what: &'static str, longest: usize) -> Result<Vec<u8>, ReadError> {
        let offset = self.offset;
        let length = self.number()?;
        if length > longest as u64 {
            return Err(self.fault(offset, Fault::TooLong { what, length, longest }));
        }
        self.string_of(length as usize)
    }

    fn string_of(&mut self, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut string = vec![0; length];
        self.fill(&mut string)?;
        self.padding(padding(length as u64))?;
        Ok(string)
    }

    fn number(&mut self) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn padding(&mut self, length: usize) -> Result<(), ReadError> {
        let (offset, mut zeros) = (self.offset, [0; 8]);
        self.fill(&mut zeros[..length])?;
        if zeros == [0; 8] { Ok(()) } else { Err(self.fault(offset, Fault::Padding)) }
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), ReadError> {
        while !buffer.is_empty() {
            let count = self.read(buffer)?;
            if count == 0 {
                return Err(self.fault(self.offset, Fault::End));
            }
            buffer = &mut buffer[count..];
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ReadError> {
        loop {
            match self.input.read(buffer) {
                Ok(count) => {
                    self.offset += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ReadError::Input { offset: self.offset, source }),
            }
        }
    }

    fn fault(&self, offset: u64, fault: Fault) -> ReadError {
        ReadError::Fault { offset, fault }
    }
}

/// Bytes for a message.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
