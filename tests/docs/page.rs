//! A page of the documentation, taken apart as far as its checks need.

use std::{collections::BTreeSet, fs};

use regex::Regex;

use super::console::Step;
use crate::common::sandbox::repository;

pub struct Page {
    /// Its path in the repository.
    pub name: String,
    pub text: String,
}

/// A fenced block.
pub struct Block {
    /// The line of its fence, from 1.
    pub line: usize,
    pub language: String,
    pub text: String,
    /// The file that a comment before it names: `<!-- file: NAME -->`.
    pub file: Option<String>,
}

impl Page {
    pub fn read(name: &str) -> Self {
        let text = fs::read_to_string(repository(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), text }
    }

    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let (mut open, mut before) = (false, "");
        for (line, number) in self.text.lines().zip(1..) {
            match (open, line.strip_prefix("```")) {
                (false, Some(language)) => {
                    let file = comment(before, "file").map(str::to_owned);
                    blocks.push(Block { line: number, language: language.to_owned(), text: String::new(), file });
                    open = true;
                }
                (true, Some(_)) => open = false,
                (true, None) => blocks.last_mut().unwrap().text += &format!("{line}\n"),
                (false, None) => {}
            }
            before = line;
        }
        assert!(!open, "{}: a block that does not end", self.name);
        blocks
    }

    /// What a reader of this page does, in its order: the `setup` of its comments, its files and its `console` blocks.
    pub fn session(&self) -> Vec<(usize, Step)> {
        let mut steps = Vec::new();
        for (line, number) in self.text.lines().zip(1..) {
            steps.extend(comment(line, "setup").map(|command| (number, Step::Silent(command.to_owned()))));
        }
        for block in self.blocks() {
            if block.language == "console" {
                steps.extend(super::console::steps(&block.text).into_iter().map(|(at, step)| (block.line + at, step)));
            } else if let Some(file) = block.file {
                steps.push((block.line, Step::File(file, block.text)));
            }
        }
        steps.sort_by_key(|(line, _)| *line);
        steps
    }

    /// Why a block is not run: the comment right before it, or else the first of the page, which is for all.
    pub fn not_run(&self, block: &Block) -> Option<&str> {
        let lines: Vec<&str> = self.text.lines().collect();
        let before = block.line.checked_sub(2).map_or("", |at| lines[at]);
        comment(before, "not run").or_else(|| lines.iter().take(3).find_map(|line| comment(line, "not run")))
    }

    /// The first line of code that is indented instead of fenced.
    pub fn indented_code(&self) -> Option<usize> {
        let mut open = false;
        let mut before = "";
        for (line, number) in self.text.lines().zip(1..) {
            open ^= line.starts_with("```");
            if !open && before.is_empty() && line.starts_with("    ") {
                return Some(number);
            }
            before = line;
        }
        None
    }

    /// Line and target of every link and picture outside of code.
    pub fn links(&self) -> Vec<(usize, String)> {
        let link = Regex::new(r#"\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)""#).unwrap();
        let code = Regex::new("`[^`]*`").unwrap();
        let (mut links, mut open) = (Vec::new(), false);
        for (line, number) in self.text.lines().zip(1..) {
            open ^= line.starts_with("```");
            let prose = if open { "".into() } else { code.replace_all(line, "") };
            let targets =
                link.captures_iter(&prose).map(|found| found.get(1).or(found.get(2)).unwrap().as_str().to_owned());
            links.extend(targets.map(|target| (number, target)));
        }
        links
    }

    /// The path in the repository that `link` on this page means.
    pub fn resolve(&self, link: &str) -> String {
        let mut parts: Vec<&str> = self.name.split('/').collect();
        parts.pop();
        for part in link.split('/') {
            match part {
                ".." => drop(parts.pop().expect("a link out of the repository")),
                "." => {}
                part => parts.push(part),
            }
        }
        parts.join("/")
    }

    /// The names that headings have in links: GitHub's rule.
    pub fn anchors(&self) -> BTreeSet<String> {
        let (mut anchors, mut open) = (BTreeSet::new(), false);
        for line in self.text.lines() {
            open ^= line.starts_with("```");
            let title = line.trim_start_matches('#');
            if open || title.len() == line.len() || !title.starts_with(' ') {
                continue;
            }
            let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            anchors.insert(kept.collect::<String>().to_lowercase().replace(' ', "-"));
        }
        anchors
    }
}

/// `VALUE` of a line `<!-- KEY: VALUE -->`.
fn comment<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix("<!-- ")?.strip_suffix(" -->")?.strip_prefix(key)?.strip_prefix(": ")
}
