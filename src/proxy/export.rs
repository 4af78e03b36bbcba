//! The client environment in the words of shells, image builders and CI services.

use serde_json::{Value, json};

use super::environment::{ClientEnvironment, Variable};
use crate::text::shell_quoted;

/// Who is to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for `eval` in a POSIX shell
    Sh,
    /// Lines for `source` in fish
    Fish,
    /// ENV instructions
    Dockerfile,
    /// Lines for the file that $GITHUB_ENV names
    GithubActions,
    /// The `variables:` of .gitlab-ci.yml
    Gitlab,
    /// An object of variables; null is to be unset
    Json,
}

/// A value that a format has no words for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} has a line break in its value, which {format} cannot hold: {value:?}")]
pub struct ExportError {
    name: &'static str,
    format: &'static str,
    value: String,
}

impl Format {
    /// `environment` in this format. Each variable has a comment that says who reads it, where the format has comments.
    /// Variables that have to be unset are in the formats that can say so.
    ///
    /// # Errors
    /// Where a value cannot be written.
    pub fn write(self, environment: &ClientEnvironment) -> Result<String, ExportError> {
        match self {
            Self::Sh => Ok(commented(environment, |variable| match variable.value {
                Some(value) => format!("export {}={}", variable.name, shell_quoted(value)),
                None => format!("unset {}", variable.name),
            })),
            Self::Fish => Ok(commented(environment, |variable| match variable.value {
                Some(value) => format!("set -gx {} {}", variable.name, fish_quoted(value)),
                None => format!("set -e {}", variable.name),
            })),
            Self::Dockerfile => dockerfile(environment),
            Self::GithubActions => Ok(environment.described().filter_map(github_line).collect()),
            Self::Gitlab => Ok(gitlab(environment)),
            Self::Json => Ok(json(environment)),
        }
    }
}

fn commented(environment: &ClientEnvironment, line: impl Fn(Variable<'_>) -> String) -> String {
    environment.described().map(|variable| format!("# {}\n{}\n", variable.readers, line(variable))).collect()
}

/// One word of fish: between single quotes, only the quote and the backslash are special.
fn fish_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

/// Between double quotes, Docker takes a backslash before itself, the quote and the dollar sign.
fn dockerfile(environment: &ClientEnvironment) -> Result<String, ExportError> {
    let mut text = String::new();
    for Variable { name, value, readers } in environment.described() {
        text += &match value {
            Some(value) if value.contains(['\n', '\r']) => {
                return Err(ExportError { name, format: "a Dockerfile", value: value.to_owned() });
            }
            Some(value) => {
                let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('$', r"\$");
                format!("# {readers}\nENV {name}=\"{value}\"\n")
            }
            None => format!("# {name} must not be set ({readers})\n"),
        };
    }
    Ok(text)
}

/// One line, or several between words that are not in the value. The file has no comments, and unsets nothing.
fn github_line(variable: Variable<'_>) -> Option<String> {
    let (name, value) = (variable.name, variable.value?);
    if !value.contains(['\n', '\r']) {
        return Some(format!("{name}={value}\n"));
    }
    let end = (0..).map(|number| format!("END_{number}")).find(|end| !value.contains(end.as_str()))?;
    Some(format!("{name}<<{end}\n{value}\n{end}\n"))
}

/// YAML, of whose double-quoted scalars JSON's strings are a part. GitLab replaces what a dollar sign begins.
fn gitlab(environment: &ClientEnvironment) -> String {
    let mut text = "variables:\n".to_owned();
    for Variable { name, value, readers } in environment.described() {
        if let Some(value) = value {
            text += &format!("  # {readers}\n  {name}: {}\n", Value::from(value.replace('$', "$$")));
        }
    }
    text
}

fn json(environment: &ClientEnvironment) -> String {
    let variables = environment
        .described()
        .map(|variable| (variable.name.to_owned(), json!({"value": variable.value, "read-by": variable.readers})));
    format!("{:#}\n", Value::Object(variables.collect()))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, path::Path, process::Command};

    use super::*;
    use crate::proxy::ProxyUrl;

    /// An environment whose CA file has everything in its name that a format could take for its own.
    fn hostile() -> (String, ClientEnvironment) {
        let ca_file = "/tmp/it's $HOME ${x} `a` \"b\" \\n % # : {{ }}/ca.pem";
        (ca_file.to_owned(), described(ca_file))
    }

    fn described(ca_file: &str) -> ClientEnvironment {
        let proxy: ProxyUrl = "http://127.0.0.1:8080".parse().unwrap();
        ClientEnvironment::describe(&proxy, Path::new(ca_file), None, false, false, &|_| None).unwrap()
    }

    /// What is set in `environment`, and what must not be.
    fn wanted(environment: &ClientEnvironment) -> Vec<(&str, Option<&str>)> {
        environment.described().map(|variable| (variable.name, variable.value)).collect()
    }

    #[test]
    fn shells_read_back_what_was_written() {
        for (shell, options, format) in
            [("sh", "-euc", Format::Sh), ("bash", "-euc", Format::Sh), ("fish", "-Nc", Format::Fish)]
        {
            let (_, hostile) = hostile();
            for environment in [hostile, described("/a\n\n'b\\\n")] {
                let mut command = Command::new(shell);
                command.arg(options).arg(format.write(&environment).unwrap() + "\nenv -0");
                let wanted = wanted(&environment);
                command.envs(wanted.iter().map(|(name, _)| (name, "as it was before")));
                let output = command.output().unwrap();
                assert!(output.status.success(), "{shell}: {output:?}");
                let printed = String::from_utf8(output.stdout).unwrap();
                let read: HashMap<_, _> = printed.split('\0').filter_map(|line| line.split_once('=')).collect();
                for (name, value) in wanted {
                    assert_eq!(read.get(name).copied(), value, "{shell}: {name}");
                }
            }
        }
    }

    /// What the runner of GitHub Actions takes a file of variables to say.
    fn as_github_reads(text: &str) -> HashMap<&str, String> {
        let mut read = HashMap::new();
        let mut lines = text.split('\n');
        while let Some(line) = lines.next().filter(|line| !line.is_empty()) {
            let (equals, heredoc) = (line.find('='), line.find("<<"));
            if let Some(at) = equals.filter(|at| heredoc.is_none_or(|heredoc| *at < heredoc)) {
                read.insert(&line[..at], line[at + 1..].to_owned());
                continue;
            }
            let (name, end) = line.split_once("<<").unwrap();
            let value: Vec<_> = lines.by_ref().take_while(|line| *line != end).collect();
            read.insert(name, value.join("\n"));
        }
        read
    }

    #[test]
    fn a_dockerfile_has_every_special_character_escaped() {
        let (_, environment) = hostile();
        let text = Format::Dockerfile.write(&environment).unwrap();
        let quoted = r#""/tmp/it's \$HOME \${x} `a` \"b\" \\n % # : {{ }}/ca.pem""#;
        assert!(text.contains(&format!("\nENV SSL_CERT_FILE={quoted}\n")), "{text}");
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("ENV ")), "{text}");
        let refused = Format::Dockerfile.write(&described("/a\nRUN rm")).unwrap_err();
        assert!(refused.to_string().contains("SSL_CERT_FILE has a line break"), "{refused}");
    }

    #[test]
    fn a_value_cannot_end_itself_in_a_file_of_github_actions() {
        let text = Format::GithubActions.write(&described("/a\nEND_0\nPATH=/evil")).unwrap();
        assert!(text.contains("SSL_CERT_FILE<<END_1\n/a\nEND_0\nPATH=/evil\nEND_1\n"), "{text}");
        for environment in [hostile().1, described("/a\nEND_0\nPATH=/evil"), described("/a<<END_0\r\nEND_0")] {
            let text = Format::GithubActions.write(&environment).unwrap();
            let set = wanted(&environment).into_iter().filter_map(|(name, value)| Some((name, value?.to_owned())));
            assert_eq!(as_github_reads(&text), set.collect(), "{text}");
        }
    }

    #[test]
    fn the_yaml_for_gitlab_says_what_the_json_says() {
        let (ca_file, environment) = hostile();
        let yaml = Format::Gitlab.write(&environment).unwrap();
        let line = yaml.lines().find_map(|line| line.strip_prefix("  SSL_CERT_FILE: ")).unwrap();
        let value: String = serde_json::from_str(line).unwrap();
        assert_eq!(value.replace("$$", "$"), ca_file);
        let json: Value = serde_json::from_str(&Format::Json.write(&environment).unwrap()).unwrap();
        assert_eq!(json["SSL_CERT_FILE"]["value"], ca_file.as_str());
        assert_eq!(json["SSL_CERT_DIR"]["value"], Value::Null);
        assert!(json["WGETRC"].is_null(), "without its file there is no such variable");
        let expected = json.as_object().unwrap().iter().filter(|(_, variable)| variable["value"].is_string());
        assert_eq!(
            yaml.lines().filter(|line| line.starts_with("  ") && !line.starts_with("  #")).count(),
            expected.count()
        );
    }
}
