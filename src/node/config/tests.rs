//! Whole configurations: layers, what they come to, and what is refused.
use super::*;

fn load(text: Option<&str>, environment: &[(&str, &str)], flags: Flags) -> Result<Config, String> {
    let variables: Vec<_> = environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
    let variables = environment::variables(variables).map_err(|error| error.to_string())?;
    let mut settings = settings::Settings::default();
    let laid = match text {
        Some(text) => file::apply(&mut settings, "corsac.toml", text),
        None => Ok(()),
    };
    laid.and_then(|()| environment::apply(&mut settings, &variables))
        .and_then(|()| flags::apply(&mut settings, &flags))
        .and_then(|()| resolve::resolve(settings))
        .map_err(|error| error.to_string())
}

fn from_file(text: &str) -> Result<Config, String> {
    load(Some(text), &[], Flags::default())
}

fn refusal(text: &str) -> String {
    from_file(text).expect_err(text)
}

fn addresses(config: &Config) -> Vec<String> {
    config.listeners.iter().map(|listener| format!("{} {}", listener.kind.name(), listener.address)).collect()
}

#[test]
fn nothing_said() {
    let config = load(None, &[], Flags::default()).unwrap();
    assert_eq!(addresses(&config), ["auto 127.0.0.1:8080", "mqtt 127.0.0.1:1883"]);
    assert_eq!((config.realms.as_slice(), config.default_realm.as_str()), (&["realm1".to_owned()][..], "realm1"));
    assert!(config.auto_create_realms && config.anonymous && !config.memory && !config.allow_anonymous_remote);
    assert_eq!((config.data_dir.to_str(), config.log.as_str()), (Some("corsac-data"), "info"));
    assert_eq!(config.limits, Limits::default());
}

#[test]
fn no_default_depends_on_whether_there_is_a_file() {
    let nothing = load(None, &[], Flags::default()).unwrap();
    assert_eq!(from_file("").unwrap(), nothing);
    assert!(nothing.summary().contains("\nrealms = realm1\nauto_create_realms = true\n"), "{}", nothing.summary());
    assert!(!from_file("auto_create_realms = false").unwrap().auto_create_realms);
    // Where somebody has to log in, realms do not come into being by themselves.
    assert!(!from_file("anonymous = false").unwrap().auto_create_realms);
}

#[test]
fn realms_that_are_named() {
    let config = from_file(
        "default_realm = \"main\"\n[[realms]]\nname = \"a\"\n[[history]]\nrealm = \"h\"\n[[listeners]]\naddress = \"127.0.0.1:0\"\nrealm = \"l\"",
    );
    assert_eq!(config.unwrap().named_realms(), ["a", "h", "l", "main"]);
    assert!(!from_file("").unwrap().realm_from_user);
    assert!(from_file("[mqtt]\nrealm_from_user = true").unwrap().realm_from_user);
    let variable = [("CORSAC_MQTT_REALM_FROM_USER", "true")];
    assert!(load(None, &variable, Flags::default()).unwrap().summary().contains("mqtt.realm_from_user = true\n"));
}

#[test]
fn everything_said() {
    let config = from_file(
        r#"
        default_realm = "factory"
        auto_create_realms = false
        anonymous = true
        allow_anonymous_remote = true
        allow_hosts = ["Router.LAN."]
        allow_origins = ["https://app.example.com"]
        memory = true
        data_dir = "/var/lib/corsac"
        log = "warn,corsac=debug"

        [[listeners]]
        address = "0.0.0.0:80"
        wamp_path = "/wamp"
        mqtt_path = "/m"

        [[listeners]]
        address = "[::1]:1884"
        kind = "mqtt"
        realm = "office"

        [[listeners]]
        address = "127.0.0.1:0"
        kind = "rawsocket"

        [[realms]]
        name = "factory"
        [[realms]]
        name = "office"

        [limits]
        max_packet_bytes = 1_000_000
        max_keep_alive_s = 60
        limit_loopback = true

        [mqtt]
        refused_filters = ["test/nosubscribe"]

        [wamp]
        strict_request_ids = true
        "#,
    )
    .unwrap();
    assert_eq!(addresses(&config), ["auto 0.0.0.0:80", "mqtt [::1]:1884", "rawsocket 127.0.0.1:0"]);
    assert_eq!((config.listeners[0].wamp_path.as_str(), config.listeners[0].mqtt_path.as_str()), ("/wamp", "/m"));
    assert_eq!(config.listeners[1].realm.as_deref(), Some("office"));
    assert_eq!(config.realms, ["factory", "office"]);
    assert_eq!(config.default_realm, "factory");
    assert!(config.memory && config.allow_anonymous_remote && !config.auto_create_realms);
    assert_eq!(
        (&config.allow_hosts[..], &config.allow_origins[..]),
        (&["router.lan".into()][..], &["https://app.example.com".into()][..])
    );
    assert_eq!(config.refused_filters, ["test/nosubscribe"]);
    assert!(config.strict_request_ids && !from_file("").unwrap().strict_request_ids);
    let environment = [("CORSAC_WAMP_STRICT_REQUEST_IDS", "true")];
    assert!(load(None, &environment, Flags::default()).unwrap().summary().contains("wamp.strict_request_ids = true"));
    let limits = Limits { max_packet_bytes: 1_000_000, max_keep_alive_s: 60, limit_loopback: true, ..Limits::default() };
    assert_eq!(config.limits, limits);
}

#[test]
fn flags_over_environment_over_file() {
    let file = "log = \"error\"\ndata_dir = \"f\"\nanonymous = false\n[limits]\nmax_connections = 1\npace_ms = 1\n\
                [[listeners]]\naddress = \"127.0.0.1:1\"\nrealm = \"realm1\"";
    let environment = [("CORSAC_LOG", "warn"), ("CORSAC_LIMITS_MAX_CONNECTIONS", "2"), ("CORSAC_HTTP", "2"), ("HOME", "/")];
    let config = load(Some(file), &environment, Flags::default()).unwrap();
    assert_eq!((config.log.as_str(), config.limits.max_connections, config.limits.pace_ms), ("warn", 2, 1));
    assert_eq!(addresses(&config), ["auto 127.0.0.1:2"]);
    // A moved listener keeps what else the file says of it.
    assert_eq!(config.listeners[0].realm.as_deref(), Some("realm1"));
    assert!(!config.anonymous);
    let flags = Flags { log: Some("trace".into()), http: Some("3".into()), data: Some("d".into()), ..Flags::default() };
    let config = load(Some(file), &environment, flags).unwrap();
    assert_eq!((config.log.as_str(), config.data_dir.to_str()), ("trace", Some("d")));
    assert_eq!(addresses(&config), ["auto 127.0.0.1:3"]);
}

#[test]
fn a_directory_overrides_memory_of_a_lower_layer() {
    let data = Flags { data: Some("d".into()), ..Flags::default() };
    assert!(!load(Some("memory = true"), &[], data.clone()).unwrap().memory);
    assert!(!load(None, &[("CORSAC_MEMORY", "true")], data).unwrap().memory);
    assert!(!load(Some("memory = true"), &[("CORSAC_DATA_DIR", "d")], Flags::default()).unwrap().memory);
    assert!(load(None, &[("CORSAC_MEMORY", "true"), ("CORSAC_DATA_DIR", "d")], Flags::default()).unwrap().memory);
    let memory = Flags { memory: true, ..Flags::default() };
    assert!(load(Some("data_dir = \"d\""), &[("CORSAC_MEMORY", "false")], memory).unwrap().memory);
}

#[test]
fn every_key_has_a_variable() {
    let keys = settings::KEYS.iter().map(|key| key.to_uppercase());
    let limits = limits::NAMES.iter().map(|name| format!("LIMITS_{}", name.to_uppercase()));
    for name in keys.chain(limits).chain(["HTTP".into(), "MQTT".into(), "MQTT_REFUSED_FILTERS".into(), "CONFIG".into()]) {
        let outcome = load(None, &[(&format!("CORSAC_{name}"), "\u{1}")], Flags::default());
        assert!(!outcome.is_err_and(|error| error.contains("unknown")), "{name}");
    }
}

#[test]
fn variables_that_are_unknown_or_wrong() {
    for (name, value, expected) in [
        ("CORSAC_ANONYMOUS", "no", "CORSAC_ANONYMOUS must be true or false, not \"no\""),
        ("CORSAC_ANONYMOUS", "", "CORSAC_ANONYMOUS must be true or false, not \"\""),
        ("CORSAC_LIMITS_PACE_MS", "-1", "CORSAC_LIMITS_PACE_MS must be an integer from 0 to 9223372036854775807, not \"-1\""),
        ("CORSAC_HTTP", "here", "CORSAC_HTTP must be ADDRESS:PORT"),
        ("CORSAC_HTTP", "0.0.0.0:80", "--allow-anonymous-remote"),
    ] {
        let error = load(None, &[(name, value)], Flags::default()).expect_err(name);
        assert!(error.contains(expected), "{error}");
    }
    for (name, expected) in [
        ("CORSAC_ANONYMUS", "`CORSAC_ANONYMUS` has no effect, as there is no such key: did you mean `CORSAC_ANONYMOUS`?"),
        ("CORSAC_LOOG", "did you mean `CORSAC_LOG`?"),
        ("CORSAC_FOO", "`CORSAC_FOO` has no effect, as there is no such key: `corsac config --defaults`"),
        ("CORSAC_VERSION", "`corsac config --defaults`"),
        ("CORSAC_IMAGE", "`corsac config --defaults`"),
        ("CORSAC_", "has no effect"),
        ("CORSAC_A\u{1b}[2J", "`CORSAC_A\\u{1b}[2J` has no effect"),
    ] {
        let warnings = load(None, &[(name, "x")], Flags::default()).unwrap().warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(expected), "{warnings:?}");
    }
    for name in ["CORSAC_LOCK_NAME", "CORSAC_LOCK_TOKEN", "CORSAC_URL"] {
        assert!(load(None, &[(name, "x")], Flags::default()).unwrap().warnings().is_empty(), "{name}");
    }
    // The variables that Kubernetes sets for a service called corsac are none of ours.
    let kubernetes =
        [("CORSAC_PORT", "tcp://10.0.0.1:8080"), ("CORSAC_PORT_8080_TCP_ADDR", "10.0.0.1"), ("CORSAC_SERVICE_HOST", "10.0.0.1")];
    assert!(load(None, &kubernetes, Flags::default()).is_ok());
}

#[test]
fn unknown_keys_name_the_nearest_and_the_place() {
    for (text, expected) in [
        ("lisen = 1", "corsac.toml:1:1: unknown key `lisen`, did you mean `listeners`?"),
        ("\n\n  realm = \"a\"", "corsac.toml:3:3: unknown key `realm`, did you mean `realms`?"),
        ("[limits]\nmax_packet_byte = 1", "corsac.toml:2:1: unknown key `max_packet_byte`, did you mean `max_packet_bytes`?"),
        ("[[listeners]]\nadress = \"x\"", "corsac.toml:2:1: unknown key `adress`, did you mean `address`?"),
        ("[[realms]]\nnome = \"x\"", "corsac.toml:2:1: unknown key `nome`, did you mean `name`?"),
        ("[mqtt]\nrefused_filter = []", "corsac.toml:2:1: unknown key `refused_filter`, did you mean `refused_filters`?"),
        ("[[history]]\nmax_byte = 1", "corsac.toml:2:1: unknown key `max_byte`, did you mean `max_bytes`?"),
        ("[[histry]]\nmax_bytes = 1", "corsac.toml:1:3: unknown key `histry`, did you mean `history`?"),
        ("max_count = 1", "unknown key `max_count`, did you mean `max_count` in [[history]]?"),
        ("http = \"127.0.0.1:1\"", "corsac.toml:1:1: unknown key `http`, known here: "),
        ("pace_ms = 1", "unknown key `pace_ms`, did you mean `pace_ms` in [limits]?"),
        ("address = \"\"", "unknown key `address`, did you mean `address` in [[listeners]]?"),
        ("[mqtt]\nlog = \"info\"", "corsac.toml:2:1: unknown key `log`, which stands outside the tables"),
        ("\"\" = 1", "corsac.toml:1:1: unknown key ``, known here: "),
        // The first mistake of the file, whatever the order of the keys.
        ("zzz = 1\naaa = 1", "corsac.toml:1:1: unknown key `zzz`"),
    ] {
        let error = refusal(text);
        assert!(error.starts_with("corsac.toml:") && error.contains(expected), "{error}");
    }
}

#[test]
fn wrong_values_name_the_key_and_the_place() {
    for (text, expected) in [
        ("log = 5", "corsac.toml:1:7: `log` must be a text in quotes, not 5"),
        ("log = \"inof\"", "corsac.toml:1:7: `log` must be one of error, warn"),
        ("anonymous = \"yes\"", "corsac.toml:1:13: `anonymous` must be true or false, not \"yes\""),
        ("allow_hosts = [\"router.lan:8080\"]", "`allow_hosts` cannot hold \"router.lan:8080\": a host is a name"),
        ("allow_origins = \"x\"", "`allow_origins` must be a list of texts"),
        ("allow_origins = [\"https://a.example/\"]", "an origin is SCHEME://HOST"),
        ("allow_origins = [1]", "`allow_origins` must be a list of texts"),
        ("[limits]\nreceive_maximum = 0", "corsac.toml:2:19: `limits.receive_maximum` must be an integer from 1 to 65535, not 0"),
        ("[limits]\npace_ms = 1.5", "`limits.pace_ms` must be an integer"),
        ("[limits]\npace_ms = 99999999999999999999", "`limits.pace_ms` must be an integer"),
        ("limits = 1", "corsac.toml:1:10: `limits` must be a table: write [limits]"),
        ("[listeners]\naddress = \"127.0.0.1:1\"", "`listeners` must be a list of tables: write [[listeners]]"),
        ("realms = [\"a\"]", "corsac.toml:1:11: `realms` must be a list of tables: write [[realms]]"),
        ("[[realms]]", "`realms` needs a name"),
        ("[[realms]]\nname = \"a\\\"; DROP\"", "corsac.toml:2:8: `realms.name` cannot be"),
        ("[[listeners]]\nkind = \"mqtt\"", "`listeners` needs an address"),
        ("[[listeners]]\naddress = \"example.com:1\"", "corsac.toml:2:11: `listeners.address` must be ADDRESS:PORT"),
        (
            "[[listeners]]\naddress = \"127.0.0.1:1\"\nkind = \"tcp\"",
            "must be one of \"auto\", \"http\", \"mqtt\", \"rawsocket\"",
        ),
        ("[[listeners]]\naddress = \"127.0.0.1:1\"\nkind = \"mqtt\"\nwamp_path = \"/x\"", "remove the path"),
        ("[[listeners]]\naddress = \"127.0.0.1:1\"\nwamp_path = \"/mqtt\"", "corsac.toml:3:1: `listeners` need two different"),
        ("[[listeners]]\naddress = \"127.0.0.1:1\"\nwamp_path = \"/healthz\"", "a page of the router itself"),
        ("[mqtt]\nrefused_filters = [\"a#\"]", "no MQTT filter"),
        ("[history]\nmax_count = 1", "`history` must be a list of tables: write [[history]]"),
        (
            "[[history]]\nmax_age = 7",
            "corsac.toml:2:11: `history.max_age` needs a unit: write max_age = \"7s\", or max_age_s = 7",
        ),
        ("[[history]]\nmax_age = \"7w\"", "`history.max_age` must be a number and its unit, s, m, h or d"),
        ("[[history]]\nmax_count = 0", "`history.max_count` must be an integer from 1"),
        ("[[history]]\nfilter = \"a#\"", "`history.filter` cannot be \"a#\": write it as an MQTT client would subscribe"),
        ("[[history]]\nstore = \"some\"", "`history.store` must be \"acknowledged\""),
        ("[[history]]\nrealm = \"a b\"", "`history.realm` cannot be"),
        ("[[history]]\nmax_age = \"1d\"\nmax_age_s = 5", "corsac.toml:1:1: `history` says max_age and max_age_s: remove one"),
        (
            "[[history]]\nmax_count = 5\nstore = \"retained\"",
            "`history` says max_count although store = \"retained\" keeps no history",
        ),
        ("data_dir = \"\"", "`data_dir` must be a directory"),
        ("log = \"info\"\nlog = \"warn\"", "corsac.toml:2:1: not TOML: duplicate key"),
        ("= 1", "corsac.toml:1:1: not TOML: "),
        ("log = \"é\" x", "corsac.toml:1:11: not TOML: "),
    ] {
        let error = refusal(text);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn contradictions() {
    for (text, expected) in [
        ("listeners = []", "nothing to listen on"),
        (
            "[[listeners]]\naddress = \"127.0.0.1:1\"\n[[listeners]]\naddress = \"127.0.0.1:1\"\nkind = \"mqtt\"",
            "two listeners want",
        ),
        (
            "allow_anonymous_remote = true\n[[listeners]]\naddress = \"0.0.0.0:1\"\n[[listeners]]\naddress = \"127.0.0.1:1\"",
            "two listeners want",
        ),
        ("[[realms]]\nname = \"a\"\n[[realms]]\nname = \"a\"", "listed twice"),
        (
            "auto_create_realms = false\n[[realms]]\nname = \"a\"\n[[realms]]\nname = \"b\"",
            "default_realm (for MQTT clients that name none) is `realm1`",
        ),
        (
            "auto_create_realms = false\ndefault_realm = \"c\"\n[[realms]]\nname = \"a\"",
            "is `c`, which is not among the realms (a)",
        ),
        (
            "auto_create_realms = false\n[[listeners]]\naddress = \"127.0.0.1:1\"\nrealm = \"x\"",
            "the realm of the listener 127.0.0.1:1 is `x`",
        ),
        (
            "auto_create_realms = false\n[[history]]\nrealm = \"x\"",
            "the realm of a rule of [[history]] is `x`, which is not among the realms",
        ),
        ("[limits]\nmax_packet_bytes = 100", "max_packet_before_auth_bytes"),
    ] {
        let error = refusal(text);
        assert!(error.contains(expected), "{error}");
    }
    let two = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[[listeners]]\naddress = \"127.0.0.1:0\"";
    assert_eq!(from_file(two).unwrap().listeners.len(), 2);
    let error = load(Some(two), &[], Flags { http: Some("1".into()), ..Flags::default() }).unwrap_err();
    assert!(error.contains("--http (CORSAC_HTTP) could mean more than one"), "{error}");
    let off = Flags { http: Some("off".into()), mqtt: Some("off".into()), ..Flags::default() };
    assert!(load(None, &[], off).unwrap_err().contains("nothing to listen on"));
}

#[test]
fn the_default_realm() {
    let default = |text| from_file(text).map(|config| (config.realms, config.default_realm));
    assert_eq!(default("default_realm = \"x\""), Ok((vec!["x".into()], "x".into())));
    assert_eq!(default("[[realms]]\nname = \"only\""), Ok((vec!["only".into()], "only".into())));
    let two = "[[realms]]\nname = \"a\"\n[[realms]]\nname = \"realm1\"";
    assert_eq!(default(two), Ok((vec!["a".into(), "realm1".into()], "realm1".into())));
    let made = "[[realms]]\nname = \"a\"\n[[realms]]\nname = \"b\"";
    assert_eq!(default(made).map(|(_, realm)| realm), Ok("realm1".into()));
}

#[test]
fn rules_of_history() {
    let config = from_file(
        "[[realms]]\nname = \"factory\"\n\
         [[history]]\nfilter = \"audit/#\"\nrealm = \"factory\"\nmax_age = \"90d\"\nstore = \"all\"\n\
         [[history]]\nmax_age_s = 3600\nmax_bytes = 1048576\nmax_count = 10",
    )
    .unwrap();
    let told = config.retention();
    assert_eq!((config.history.len(), told.len()), (2, 3));
    assert_eq!((told[0].realm.as_deref(), told[0].max_age_ms), (Some("factory"), Some(90 * 86_400_000)));
    assert_eq!((told[1].max_age_ms, told[1].max_bytes, told[1].max_count), (Some(3_600_000), Some(1 << 20), Some(10)));
    let stored = [config.history[0].store, config.history[1].store];
    assert_eq!(stored, [crate::model::record::Stored::All, crate::model::record::Stored::Acknowledged]);
    assert_eq!(from_file("").unwrap().retention(), [HistoryRule::default().retention()]);
    let summary = config.summary();
    assert!(summary.contains("history audit/# of factory: everything, 90 days\nhistory all topics: "), "{summary}");
    assert!(from_file("").unwrap().summary().contains("history all topics: what is acknowledged, 7 days, 1 GiB\n"));
    let memory = from_file("memory = true\n[[history]]\nmax_count = 1").unwrap();
    assert!(!memory.summary().contains("history all") && memory.warnings()[0].contains("no effect"));
}

#[test]
fn other_machines_only_with_the_named_flag() {
    for address in ["0.0.0.0:8080", "[::]:8080", "192.168.1.1:8080"] {
        let http = Flags { http: Some(address.into()), ..Flags::default() };
        let error = load(None, &[], http.clone()).unwrap_err();
        assert!(error.starts_with(address) && error.contains("--allow-anonymous-remote"), "{error}");
        let allowed = load(None, &[], Flags { allow_anonymous_remote: true, ..http.clone() }).unwrap();
        assert_eq!(allowed.warnings().len(), 1);
        assert!(load(None, &[("CORSAC_ALLOW_ANONYMOUS_REMOTE", "true")], http.clone()).is_ok());
        // Without anonymous clients nobody unknown comes in, and the warning says that nobody does at all.
        let closed = load(None, &[("CORSAC_ANONYMOUS", "false")], http).unwrap();
        assert!(closed.warnings()[0].contains("no client can connect"));
    }
    assert!(load(None, &[], Flags::default()).unwrap().warnings().is_empty());
}

#[test]
fn names_to_answer_to() {
    let flags = Flags { allow_hosts: vec!["b.example".into()], ..Flags::default() };
    let file = Some("allow_hosts = [\"a.example\"]");
    let variable = [("CORSAC_ALLOW_HOSTS", "c.example, d.example")];
    assert_eq!(load(file, &variable, flags).unwrap().allow_hosts, ["b.example"]);
    assert_eq!(load(file, &variable, Flags::default()).unwrap().allow_hosts, ["c.example", "d.example"]);
    let config = from_file("allow_hosts = [\"*\", \"a\"]").unwrap();
    assert!(config.summary().contains("allow_hosts = *, a\n") && config.warnings()[0].contains("holds `*`"));
}

#[test]
fn a_byte_order_mark_is_no_key() {
    assert_eq!(from_file("\u{feff}log = \"warn\"").unwrap().log, "warn");
}

#[test]
fn a_file_that_is_not_there() {
    let path = std::path::PathBuf::from("no/such/corsac.toml");
    let error = Config::load(&Flags { config: Some(path), ..Flags::default() }, []).unwrap_err().to_string();
    assert!(error.contains("no/such/corsac.toml") && error.contains("--config"), "{error}");
    let error = Config::load(&Flags::default(), [("CORSAC_CONFIG".into(), "no/such.toml".into())]).unwrap_err();
    assert!(matches!(error, ConfigError::Unreadable { .. }));
}

#[test]
fn the_home_directory_is_where_the_shell_would_find_it() {
    let data = |text: &str, home: &[(&str, &str)]| {
        load(Some(&format!("data_dir = '{text}'")), home, Flags::default()).map(|config| config.data_dir.display().to_string())
    };
    let home = [("HOME", "/home/ann")];
    for (text, expected) in [
        ("~/corsac", "/home/ann/corsac"),
        ("~", "/home/ann"),
        ("~/", "/home/ann"),
        ("./~/corsac", "./~/corsac"),
        ("a/~/b", "a/~/b"),
        ("/var/lib/corsac", "/var/lib/corsac"),
        ("corsac-data", "corsac-data"),
    ] {
        assert_eq!(data(text, &home), Ok(expected.to_owned()), "{text}");
    }
    assert!(data("~/corsac", &[]).is_err_and(|error| error.contains("HOME is not set, so write the whole path")));
    assert!(data("~bob/corsac", &home).is_err_and(|error| error.contains("begins with ~bob: write the whole path")));
    let flags = Flags { data: Some("~/d".into()), ..Flags::default() };
    assert_eq!(load(None, &home, flags).unwrap().data_dir.to_str(), Some("/home/ann/d"));
    let warnings = from_file("data_dir = 'C:\\corsac\\data'").unwrap().warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("/ divides directories"), "{warnings:?}");
}

#[test]
fn sizes_may_have_units() {
    let config =
        from_file("[limits]\nmax_packet_bytes = \"1MiB\"\nmax_connections = 5\n[[history]]\nmax_bytes = \"10GB\"").unwrap();
    assert_eq!((config.limits.max_packet_bytes, config.history[0].max_bytes), (1 << 20, Some(10_000_000_000)));
    let error = refusal("[limits]\nmax_connections = \"5k\"");
    assert!(error.contains("`limits.max_connections` must be an integer"), "{error}");
    let error = refusal("[[history]]\nmax_bytes = \"10 giga\"");
    assert!(error.contains("`history.max_bytes` must be a number of bytes, or one with a unit, as \"500MB\""), "{error}");
    assert_eq!(
        load(None, &[("CORSAC_LIMITS_MAX_OUTBOX_BYTES", "8MiB")], Flags::default()).unwrap().limits.max_outbox_bytes,
        8 << 20
    );
}

#[test]
fn the_summary_shows_what_is_in_effect() {
    let summary =
        from_file("[limits]\npace_ms = 7\n[mqtt]\nrefused_filters = [\"a/b\"]\nserver_reference = \"b:1\"").unwrap().summary();
    for expected in [
        "127.0.0.1:8080",
        "127.0.0.1:1883",
        "realm1",
        "pace_ms = 7",
        "a/b",
        "reference = b:1",
        "threads = 1",
        "info",
        "corsac-data",
    ] {
        assert!(summary.contains(expected), "{summary}");
    }
}
