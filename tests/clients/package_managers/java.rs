//! Maven and Gradle.

use super::*;

#[test]
fn maven_asks_for_checksums_that_exist_and_for_some_that_do_not() {
    let origin = Nginx::start("");
    make(
        &origin.www(),
        r#"artifact() {
            folder=maven/$(echo "$1" | tr . /)/$2/$3 && mkdir -p "$folder" && cd "$folder"
            echo "<project><modelVersion>4.0.0</modelVersion>$5<groupId>$1</groupId><artifactId>$2</artifactId>" \
                "<version>$3</version><packaging>$4</packaging></project>" >"$2-$3.pom"
            [ "$4" = pom ] || /usr/bin/python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1], "w").writestr("a", "a")' "$2-$3.jar"
            for file in *; do [ "$2" = grandparent ] || sha1sum "$file" | cut -c 1-40 >"$file.sha1"; done
            cd "$OLDPWD"
        }
        artifact org.example grandparent 1 pom ''
        artifact org.example parent 1 pom \
            '<parent><groupId>org.example</groupId><artifactId>grandparent</artifactId><version>1</version></parent>'
        artifact org.example extension 1 jar ''
        # Maven gives this one to every extension.
        artifact org.codehaus.plexus plexus-utils 1.1 jar ''"#,
    );
    let repository = origin.tls_url("/maven");
    let settings = format!(
        "<settings><mirrors><mirror><id>mirror</id><mirrorOf>*</mirrorOf><url>{repository}</url></mirror></mirrors></settings>"
    );
    let project = "<project><modelVersion>4.0.0</modelVersion>
        <parent><groupId>org.example</groupId><artifactId>parent</artifactId><version>1</version><relativePath/></parent>
        <artifactId>app</artifactId><packaging>pom</packaging>
        <build><extensions><extension><groupId>org.example</groupId><artifactId>extension</artifactId><version>1</version>
        </extension></extensions></build></project>";
    // Java takes the home from the system's list of users, not from the environment.
    let script = "export MAVEN_OPTS=-Duser.home=$HOME; mvn -X --batch-mode -s settings.xml validate >&2; cp -r ~/.m2/repository .
        rm -r $(find repository -name '_*' -o -name '*.lastUpdated')";
    let seen = with_and_without_the_origin(origin, &[("pom.xml", project), ("settings.xml", &settings)], script);
    let of = |path: &str| format!("/maven/org/example/{path}");
    for (path, status) in [
        ("parent/1/parent-1.pom.sha1", 200),
        ("extension/1/extension-1.jar.sha1", 200),
        ("grandparent/1/grandparent-1.pom.sha1", 404),
    ] {
        seen.was_asked(&format!("GET {} {status}", of(path)));
        assert_eq!(seen.inventory.one(&format!("{repository}/org/example/{path}")).status(), status);
    }
    seen.told_both_times("no checksums available from mirror");
}

#[test]
fn gradle_takes_each_module_from_the_repository_that_has_it() {
    let origin = Nginx::start("types { text/xml xml pom; }");
    make(
        &origin.www(),
        r#"module() {
            folder=$1/org/example/$2 && mkdir -p "$folder/1.2" && cd "$folder"
            echo "<metadata><groupId>org.example</groupId><artifactId>$2</artifactId><versioning><latest>1.2</latest>" \
                "<versions><version>1.2</version></versions></versioning></metadata>" >maven-metadata.xml
            echo "<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId><artifactId>$2</artifactId>" \
                "<version>1.2</version>$3</project>" >"1.2/$2-1.2.pom"
            /usr/bin/python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1], "w").writestr("a", "a")' "1.2/$2-1.2.jar"
            for file in 1.2/*.jar 1.2/*.pom; do sha1sum "$file" | cut -c 1-40 >"$file.sha1"; done
            cd "$OLDPWD"
        }
        module first farewell ''
        module second greeting '<dependencies><dependency><groupId>org.example</groupId><artifactId>farewell</artifactId>
            <version>1.2</version></dependency></dependencies>'"#,
    );
    let build = format!(
        "repositories {{ maven {{ url '{}' }}; maven {{ url '{}' }} }}
        configurations {{ wanted }}
        dependencies {{ wanted 'org.example:greeting:1.+' }}
        task copy(type: Copy) {{ from configurations.wanted; into 'libs' }}\n",
        origin.tls_url("/first"),
        origin.url("/second")
    );
    let script = "export GRADLE_USER_HOME=\"$HOME/gradle\"
        gradle --no-daemon --info --project-cache-dir \"$HOME/cache\" copy >&2; rm -rf build; ls libs";
    let seen = with_and_without_the_origin(origin, &[("build.gradle", &build), ("settings.gradle", "")], script);
    assert_eq!(seen.captured.text(), "farewell-1.2.jar\ngreeting-1.2.jar\n");
    for (path, status) in [
        ("first/org/example/greeting/maven-metadata.xml", 404),
        ("second/org/example/greeting/maven-metadata.xml", 200),
        ("first/org/example/farewell/1.2/farewell-1.2.jar", 200),
    ] {
        seen.was_asked(&format!("GET /{path} {status}"));
    }
}
