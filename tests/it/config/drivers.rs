//! Drivers and app servers: settings that do not fit together.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::Host;

#[test]
fn bad_settings_of_a_driver_are_answered_with_the_key_and_the_way_out() {
    let host = Host::new();
    let open = host.path("open");
    fs::write(&open, "a secret that everybody can read").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let open = open.display();
    let pooler = "driver=\"pgbouncer\"";
    let console = "console=\"host=127.0.0.1 user=locum\"";
    let cases: &[(&str, &str, &str)] = &[
        ("driver=\"haproxy\"", "endpoint[x].driver is \"haproxy\"", "\"vip\" or"),
        (pooler, "endpoint[x].console is missing", "one of its admin_users"),
        (
            &format!("{pooler},console=\"host=a user=b password=c\",databases=[\"d\"]"),
            "endpoint[x].console holds a password",
            "password_file",
        ),
        (
            &format!("{pooler},{console},databases=[\"*\"]"),
            "endpoint[x].databases holds \"*\"",
            "list the databases",
        ),
        (
            &format!("{pooler},{console},databases=[]"),
            "endpoint[x].databases lists none",
            "that lead to the primary",
        ),
        (
            &format!("{pooler},{console},databases=[\"d\"],options=\"dbname=e\""),
            "endpoint[x].options has no effect without file",
            "add file",
        ),
        (
            &format!("{pooler},{console},databases=[\"d\"],timeout=\"2s\",give_up=\"1s\""),
            "endpoint[x].give_up is shorter than timeout",
            "Lengthen",
        ),
        (
            &format!("{pooler},{console},databases=[\"d\"],hold=\"2s\""),
            "endpoint[x].hold is no known key",
            "",
        ),
        (
            "driver=\"vip\",address=\"10.0.0.9\",interface=\"lo\"",
            "endpoint[x].address is \"10.0.0.9\", which is no address",
            "with its prefix length",
        ),
        (
            "driver=\"vip\",address=\"10.0.0.9/24\",interface=\"nosuch0\"",
            "endpoint[x].interface is \"nosuch0\", and this host has no such interface",
            "`ip link` lists",
        ),
        (
            &format!("driver=\"webhook\",url=\"dns.example.com\",secret_file=\"{open}\""),
            "endpoint[x].url is \"dns.example.com\", which is no URL",
            "https://",
        ),
        (
            &format!("driver=\"webhook\",url=\"https://dns.example.com\",secret_file=\"{open}\""),
            "can be read by everybody",
            "chmod 600",
        ),
        ("driver=\"exec\",command=\"repoint\"", "endpoint[x].command is \"repoint\"", "the whole path"),
        ("driver=\"exec\",command=\"/nosuch\"", "endpoint[x].command /nosuch is no program", "chmod +x"),
    ];
    for (keys, what, fix) in cases {
        let set = format!("endpoint=[{{name=\"x\",target=\"primary\",{keys}}}]");
        let (code, said) = host.check_with(&[&set]);
        assert!(code == Some(1) && said.contains(what) && said.contains(fix), "{keys}: {code:?} {said}");
        assert!(!said.contains("password=c"), "{said}");
    }
}

#[test]
fn an_app_endpoint_needs_an_app() {
    let host = Host::new();
    let text = host.good().replace("\"primary\"", "\"app\"");
    fs::write(host.file(), text.split("[app]").next().unwrap()).unwrap();
    let (code, told) = host.check_with(&[]);
    assert_eq!(code, Some(1));
    assert!(told.contains("endpoint[db].target is \"app\", but this file has no [app]"), "{told}");
}

#[test]
fn commands_of_an_app_server_are_looked_at_and_belong_to_one_that_can_be_passive() {
    let host = Host::new();
    let active = "endpoint=[{name=\"web\",target=\"app\",listen=\"127.0.0.1:6480\",mode=\"active-active\"}]";
    let cases: &[(&[&str], &str, &str)] = &[
        (&["app.start=run"], "app.start is \"run\"", "the whole path"),
        (&["app.start=/nosuch"], "app.start /nosuch is no program", "chmod +x"),
        (
            &["app.stop=/bin/true", active],
            "app.stop belongs to an app server that is active or passive",
            "Remove it",
        ),
        (&["app.promote=/bin/true", "app.command_timeout=0s"], "app.command_timeout is zero", "30s"),
        (&["app.database_file=/etc/passwd/orders.env"], "/etc/passwd is no directory", "Name a directory"),
        (
            &[
                "app.start=/bin/true",
                "endpoint=[{name=\"app-server\",target=\"app\",listen=\"127.0.0.1:6480\"}]",
            ],
            "endpoint[app-server].name is the name of two endpoints",
            "its own name",
        ),
    ];
    for (sets, what, fix) in cases {
        let (code, said) = host.check_with(sets);
        assert!(code == Some(1) && said.contains(what) && said.contains(fix), "{sets:?}: {code:?} {said}");
    }
    assert_eq!(host.check_with(&["app.start=/bin/true", "app.stop=/bin/true"]), (Some(0), "ok\n".into()));
}
