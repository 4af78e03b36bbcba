//! `maven-metadata.xml`, as nixpkgs makes it for Gradle of the versions that a lock file has.
//!
//! A lock file has what cannot be known from URLs; the rest is in the names of the files beside. Every odd thing here is
//! nixpkgs' own: builds were made with these bytes.

use serde_json::{Map, Value};

use super::version;

const NAME: &str = "/maven-metadata.xml";
/// When the list of an artifact's versions was last changed, where nobody knows.
const SOME_DAY: &str = "20240101123456";

/// What a lock file knows of a `maven-metadata.xml`.
#[derive(Debug)]
pub struct Metadata<'a>(&'a Map<String, Value>);

/// A file of a repository, by its URL.
struct Artifact<'a> {
    version: String,
    is_snapshot: bool,
    classifier: Option<&'a str>,
    extension: &'a str,
}

impl<'a> Artifact<'a> {
    fn of(url: &'a str) -> Self {
        let extension = url.rsplit('.').next().unwrap_or_default();
        let mut segments = url.rsplit('/');
        let mut next = || segments.next().unwrap_or_default();
        let (file, folder, name) = (next(), next(), next());
        let file = file.strip_suffix(extension).and_then(|file| file.strip_suffix('.')).unwrap_or(file);
        let rest = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).unwrap_or(file);
        let is_snapshot = folder.ends_with("-SNAPSHOT");
        let version = match is_snapshot && !rest.starts_with("SNAPSHOT") {
            true => rest.split('-').take(3).collect::<Vec<_>>().join("-"),
            false => folder.to_owned(),
        };
        let behind = rest.strip_prefix(&version).and_then(|rest| rest.strip_prefix('-')).unwrap_or(rest);
        let classifier = Some(behind).filter(|_| rest != version);
        Self { version, is_snapshot, classifier, extension }
    }
}

impl<'a> Metadata<'a> {
    /// What the member with a `groupId` says.
    pub fn new(members: &'a Map<String, Value>) -> Self {
        Self(members)
    }

    /// The file at `url`, beside the others at `urls`, which are sorted.
    ///
    /// # Errors
    /// What of it nixpkgs would refuse.
    pub fn write(&self, url: &str, urls: &[&str]) -> Result<String, String> {
        let base = url.strip_suffix(NAME).unwrap_or(url);
        let mut files: Vec<Artifact> =
            urls.iter().filter(|one| one.starts_with(base) && **one != url).map(|one| Artifact::of(one)).collect();
        files.sort_by(|a, b| version::compare(&a.version, &b.version));
        let mut folders = base.rsplit('/');
        let last = folders.next().unwrap_or_default();
        let of_snapshot = last.ends_with("-SNAPSHOT");
        let artifact = if of_snapshot { folders.next().unwrap_or_default() } else { last };
        let group = self.text("groupId")?.ok_or("its `groupId` is no text")?;
        if !url.contains(&format!("{}/{artifact}", group.replace('.', "/"))) {
            return Err(format!("its `groupId` is `{group}`, which is not where it is"));
        }
        match of_snapshot {
            true => self.of_snapshot(group, artifact, last, &files),
            false => self.of_artifact(group, artifact, &files),
        }
    }

    /// A member that goes into the file.
    fn text(&self, name: &str) -> Result<Option<&'a str>, String> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.contains(['<', '>', '"', '\'', '&']) => Ok(Some(text)),
            Some(other) => Err(format!("its `{name}` is {other}, which is nothing for XML")),
        }
    }

    /// The versions of an artifact.
    fn of_artifact(&self, group: &str, artifact: &str, files: &[Artifact]) -> Result<String, String> {
        let mut distinct: Vec<&Artifact> = files.iter().collect();
        distinct.dedup_by(|one, before| one.version == before.version);
        let mut versions: Vec<&str> = distinct.iter().map(|file| file.version.as_str()).collect();
        let newest_release = distinct.iter().rev().find(|file| !file.is_snapshot).map(|file| file.version.as_str());
        let release = self.text("release")?;
        let latest = self.text("latest")?.or(release).or(versions.last().copied());
        let latest = latest.ok_or("the lock file has no version of it")?;
        let release = release.or(newest_release);
        let others = release.into_iter().chain(Some(latest).filter(|latest| release != Some(*latest)));
        // Gradle need not have taken them.
        let others: Vec<&str> = others.filter(|version| !versions.contains(version)).collect();
        versions.extend(others);
        let release = release.map(|release| format!("    <release>{release}</release>")).unwrap_or_default();
        let versions: String = versions.iter().map(|version| format!("      <version>{version}</version>\n")).collect();
        let updated = self.text("lastUpdated")?.unwrap_or(SOME_DAY);
        Ok(document(
            group,
            artifact,
            &format!(
                "  <versioning>\n    <latest>{latest}</latest>\n{release}\n    <versions>\n{versions}    </versions>\n    \
                 <lastUpdated>{updated}</lastUpdated>\n  </versioning>\n"
            ),
        ))
    }

    /// The files of a snapshot.
    fn of_snapshot(&self, group: &str, artifact: &str, folder: &str, files: &[Artifact]) -> Result<String, String> {
        let latest = match self.text("latest")?.or(self.text("release")?) {
            Some(latest) => latest,
            None => &files.last().ok_or("the lock file has no file of it")?.version,
        };
        let time = |version: &'_ str| {
            let time = version.split('-').nth(1).map(str::to_owned);
            time.ok_or_else(|| format!("the version `{version}` of a file of it has no time"))
        };
        let (newest, number) = (time(latest)?, latest.rsplit('-').next().unwrap_or_default());
        let updated = self.text("lastUpdated")?.map_or_else(|| newest.replace('.', ""), str::to_owned);
        let mut versions = String::new();
        for Artifact { version, classifier, extension, .. } in files {
            // Further in than the others.
            let classifier = classifier.map(|name| format!("              <classifier>{name}</classifier>\n"));
            versions += &format!(
                "      <snapshotVersion>\n{}        <extension>{extension}</extension>\n        <value>{version}</value>\n        \
                 <updated>{}</updated>\n      </snapshotVersion>\n",
                classifier.unwrap_or_default(),
                time(version)?.replace('.', "")
            );
        }
        Ok(document(
            group,
            artifact,
            &format!(
                "  <version>{folder}</version>\n  <versioning>\n    <snapshot>\n      <timestamp>{newest}</timestamp>\n      \
                 <buildNumber>{number}</buildNumber>\n    </snapshot>\n    <lastUpdated>{updated}</lastUpdated>\n    \
                 <snapshotVersions>\n{versions}    </snapshotVersions>\n  </versioning>\n"
            ),
        ))
    }
}

fn document(group: &str, artifact: &str, content: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<metadata modelVersion=\"1.1.0\">\n  <groupId>{group}</groupId>\n  \
         <artifactId>{artifact}</artifactId>\n{content}</metadata>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nixpkgs_refuses_is_left_out_with_the_reason() {
        let write = |members: Value, url: &str, others: &[&str]| {
            Metadata::new(members.as_object().unwrap()).write(url, others).unwrap_err()
        };
        let url = "https://h/m2/org/lib/maven-metadata.xml";
        let file = "https://h/m2/org/lib/1/lib-1.pom";
        for (members, says) in [
            (serde_json::json!({"groupId": 7}), "groupId"),
            (serde_json::json!({"groupId": "net"}), "not where it is"),
            (serde_json::json!({"groupId": "org", "release": "<x/>"}), "`release`"),
            (serde_json::json!({"groupId": "org", "lastUpdated": "\""}), "`lastUpdated`"),
        ] {
            assert!(write(members.clone(), url, &[file]).contains(says), "{members}");
        }
        assert!(write(serde_json::json!({"groupId": "org"}), url, &[url]).contains("no version"));
        let snapshot = "https://h/m2/org/lib/1-SNAPSHOT/maven-metadata.xml";
        let untimed = "https://h/m2/org/lib/1-SNAPSHOT/lib.pom";
        assert!(write(serde_json::json!({"groupId": "org"}), snapshot, &[untimed, snapshot]).contains("has no time"));
    }
}
