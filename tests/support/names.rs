//! Names of hosts that lead where a test says, for the processes that are given them.

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tempfile::NamedTempFile;

/// A file of names that the system's resolver looks into, with the help of Debian's `libnss-wrapper`.
pub struct Names {
    file: NamedTempFile,
    /// The file's time goes on with each change: it is read again when it is newer, in whole seconds.
    changed: Mutex<SystemTime>,
}

impl Names {
    /// One name that leads to an address.
    pub fn of(name: &str, address: IpAddr) -> Self {
        let file = NamedTempFile::new().expect("a temporary file");
        let made = file.as_file().metadata().and_then(|of| of.modified()).expect("our own file");
        let names = Self { file, changed: Mutex::new(made) };
        names.lead(name, address);
        names
    }

    /// The name leads there from now on.
    pub fn lead(&self, name: &str, address: IpAddr) {
        let mut changed = self.changed.lock();
        *changed += Duration::from_secs(2);
        let mut file = File::create(self.file.path()).expect("our own file");
        writeln!(file, "{address} {name}").expect("our own file");
        file.set_modified(*changed).expect("our own file");
    }

    /// The variables of a process that is to use them.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        let there = ["/usr/lib/x86_64-linux-gnu/libnss_wrapper.so", "/usr/lib/aarch64-linux-gnu/libnss_wrapper.so"];
        let library = there.into_iter().find(|path| std::path::Path::new(path).exists());
        let library = library.expect("libnss-wrapper is installed").to_owned();
        [("LD_PRELOAD", library), ("NSS_WRAPPER_HOSTS", self.file.path().to_str().expect("a plain path").to_owned())]
    }
}
