//! Any text as a configuration file, and any variables over it: a configuration or one complaint that names its place.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use corsac::node::config::{Config, Flags};

corsac_fuzz::target!(run, seeds);

/// Between the file and the variables, and between those.
const SEPARATOR: u8 = 0x1E;

fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| std::env::temp_dir().join(format!("corsac-fuzz-{}.toml", std::process::id())))
}

fn run(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == SEPARATOR);
    std::fs::write(file(), parts.next().unwrap_or_default()).expect("a temporary file");
    let variables: Vec<(OsString, OsString)> = parts
        .filter_map(|part| {
            let at = part.iter().position(|byte| *byte == b'=')?;
            let name = [b"CORSAC_", &part[..at]].concat();
            let is_path = name == b"CORSAC_CONFIG";
            (!is_path).then(|| (OsString::from_vec(name), OsString::from_vec(part[at + 1..].to_vec())))
        })
        .collect();
    let flags = Flags { config: Some(file().clone()), ..Flags::default() };
    let loaded = Config::load(&flags, variables.clone());
    match &loaded {
        Ok(config) => {
            assert!(!config.summary().is_empty() && config.warnings().iter().all(|warning| !warning.is_empty()));
            assert!(!config.listeners.is_empty() && !config.realms.is_empty());
            let is_open = config.anonymous && !config.allow_anonymous_remote;
            assert!(!is_open || config.listeners.iter().all(|listener| !listener.is_remote()), "open to everybody");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let again = Config::load(&flags, variables);
    assert_eq!(format!("{loaded:?}"), format!("{again:?}"));
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "default_realm = \"r\"\nauto_create_realms = false\nanonymous = true\nallow_anonymous_remote = true\nlog = \"info,corsac::net=debug\"\nmemory = true\ndata_dir = \"x\"\nallow_origins = [\"https://a.example\", \"*\"]\n[[realms]]\nname = \"r\"\n[[listeners]]\naddress = \"0.0.0.0:8080\"\nkind = \"auto\"\nrealm = \"r\"\nwamp_path = \"/w\"\nmqtt_path = \"/m\"\n[[listeners]]\naddress = \"[::1]:1883\"\nkind = \"mqtt\"\n[mqtt]\nrefused_filters = [\"a/#\"]\n[limits]\nmax_packet_bytes = 1024\nreceive_maximum = 10\n",
        "anonymos = true",
        "[limits]\nmax_conections = 1",
        "[[listeners]]\nkind = \"rawsocket\"\naddress = \":1\"",
        "a = 0x_1\nb = 1979-05-27\n[c.d]\ne = '''x'''",
        "\u{feff}memory = true\x1eHTTP=127.0.0.1:0\x1eMQTT=off\x1eLIMITS_MAX_PACKET_BYTES=1MiB\x1eDATA_DIR=/x\x1eREALMS=a,b",
        "\x1eALLOW_ORIGINS=https://a\x1eDEFAULT_REALM=x y\x1eANONYMOUS=maybe\x1eSERVICE_HOST=1",
    ];
    texts.into_iter().map(|text| text.as_bytes().to_vec()).collect()
}
