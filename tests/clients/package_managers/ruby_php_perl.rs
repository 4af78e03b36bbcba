//! Bundler, Composer and cpanm.

use super::*;

#[test]
fn bundler_installs_from_a_compact_index() {
    let made = tempfile::tempdir().unwrap();
    make(
        made.path(),
        r#"mkdir -p gems/gems gems/info lib && echo 'Greeting = "hello"' >lib/greeting.rb
        echo 'Gem::Specification.new { |s| s.name, s.version, s.summary, s.author, s.files =
            "greeting", "1.0.0", "greets", "nobody", ["lib/greeting.rb"] }' >greeting.gemspec
        gem build --quiet --silent --output gems/gems/greeting-1.0.0.gem greeting.gemspec
        digest() { "$1" "$2" | cut -d ' ' -f 1; }
        printf -- '---\n1.0.0 |checksum:%s\n' "$(digest sha256sum gems/gems/*)" >gems/info/greeting
        printf 'created_at: 2024-01-01T00:00:00Z\n---\ngreeting 1.0.0 %s\n' "$(digest md5sum gems/info/greeting)" >gems/versions
        for file in versions info/greeting; do digest md5sum gems/$file; done >etags"#,
    );
    // Bundler takes an index only where its ETag is the digest of it.
    let etags = fs::read_to_string(made.path().join("etags")).unwrap();
    let index = ["versions", "info/greeting"].into_iter().zip(etags.lines()).map(|(file, digest)| {
        format!("location = /gems/{file} {{ default_type text/plain; etag off; add_header ETag '\"{digest}\"'; }}\n")
    });
    let origin = Nginx::start(&index.collect::<String>());
    run(Command::new("cp").arg("-r").arg(made.path().join("gems")).arg(origin.www())).expect_code(0);
    let gemfile = format!("source '{}'\ngem 'greeting'\n", origin.tls_url("/gems/"));
    let script = "export BUNDLE_PATH=vendor; bundle install --retry 0 >&2; rm -r vendor; bundle install --retry 0 >&2
        bundle exec ruby -e 'require %q(greeting); puts Greeting'";
    let seen = with_and_without_the_origin(origin, &[("Gemfile", &gemfile)], script);
    seen.was_asked("GET /gems/info/greeting 200");
    seen.was_asked("GET /gems/gems/greeting-1.0.0.gem 200");
    assert_eq!(seen.replayed.text(), "hello\n");
}

#[test]
fn composer_installs_from_a_repository_of_archives() {
    let origin = Nginx::start("");
    make(
        &origin.www(),
        r#"mkdir -p php/greeting && cd php/greeting && echo '<?php const GREETING = "hello\n";' >greeting.php
        echo '{"name": "example/greeting", "autoload": {"files": ["greeting.php"]}}' >composer.json
        cd .. && zip -q -r greeting-1.0.0.zip greeting"#,
    );
    let package = format!(
        r#"{{"packages": {{"example/greeting": {{"1.0.0": {{"name": "example/greeting", "version": "1.0.0",
            "autoload": {{"files": ["greeting.php"]}}, "dist": {{"type": "zip", "url": "{}"}}}}}}}}}}"#,
        origin.tls_url("/php/greeting-1.0.0.zip")
    );
    fs::write(origin.www().join("php/packages.json"), package).unwrap();
    let manifest = format!(
        r#"{{"repositories": [{{"type": "composer", "url": "{}"}}, {{"packagist.org": false}}],
            "config": {{"autoloader-suffix": "app"}}, "require": {{"example/greeting": "^1"}}}}"#,
        origin.tls_url("/php")
    );
    let script = "export COMPOSER_ALLOW_SUPERUSER=1 COMPOSER_NO_INTERACTION=1
        composer install --no-progress >&2; rm -r vendor ~/.cache/composer; composer install --no-progress >&2
        php -r 'require \"vendor/autoload.php\"; echo GREETING;'";
    let seen = with_and_without_the_origin(origin, &[("composer.json", &manifest)], script);
    let times = ["packages.json", "greeting-1.0.0.zip"].map(|path| seen.times(&format!("GET /php/{path} 200")));
    assert_eq!(times, [1, 2], "with a lock file, archives alone: {:#?}", seen.asked);
    assert_eq!(seen.replayed.text(), "hello\n");
}

#[test]
fn cpanm_installs_from_a_mirror() {
    let origin = Nginx::start("");
    make(
        &origin.www(),
        r#"mkdir -p cpan/modules cpan/authors/id/N/NO/NOBODY Greeting-1.0/lib && cd Greeting-1.0
        echo 'package Greeting; our $VERSION = "1.0"; sub hello { print "hello\n" } 1;' >lib/Greeting.pm
        echo 'use ExtUtils::MakeMaker; WriteMakefile(NAME => "Greeting", VERSION_FROM => "lib/Greeting.pm");' >Makefile.PL
        printf 'Makefile.PL\nMANIFEST\nlib/Greeting.pm\n' >MANIFEST && cd ..
        tar czf cpan/authors/id/N/NO/NOBODY/Greeting-1.0.tar.gz Greeting-1.0
        printf 'File: 02packages.details.txt\n\nGreeting 1.0 N/NO/NOBODY/Greeting-1.0.tar.gz\n' |
            gzip -n >cpan/modules/02packages.details.txt.gz"#,
    );
    let script = format!(
        "cpanm --quiet --notest --no-man-pages --mirror-only --mirror '{}' --local-lib-contained local Greeting >&2
        perl -Ilocal/lib/perl5 -MGreeting -e Greeting::hello; find local -name .packlist -delete -o -name perllocal.pod -delete
        find local -name install.json -delete -o -name MYMETA.json -delete",
        origin.tls_url("/cpan/")
    );
    let seen = with_and_without_the_origin(origin, &[], &script);
    seen.was_asked("GET /cpan/authors/id/N/NO/NOBODY/Greeting-1.0.tar.gz 200");
    assert_eq!(seen.replayed.text(), "hello\n");
}
