//! The files that the configuration is made of, and whether they have changed.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::source::{FILE, sources};
use super::strings::{Strings, environment};
use super::{declarations, moderation};

/// What tells one state of a file from another: a file that was replaced by a rename or behind a link is another one,
/// though its name is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// The state of all files that the configuration is made of; `None` for one that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<PathBuf, Option<Stamp>>);

impl Files {
    /// Looks at them as they are now: the file of settings, each `…_FILE` that it or the environment names, and what is in the
    /// folder of the moderation lists. Reads the file of settings, and of the others their metadata alone. Not for a
    /// thread that must not block.
    #[must_use]
    pub fn look() -> Self {
        // A file of settings that is wrong hides what it names, and is itself what must change.
        let strings = sources().unwrap_or_else(|_| environment());
        Self(named(&strings).into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata))
}

fn named(strings: &dyn Strings) -> Vec<PathBuf> {
    let names = declarations().flat_map(|variable| [Some(variable.name), variable.fallback]).flatten();
    let names = names.map(|name| format!("{name}_FILE")).chain([FILE.name.to_owned()]);
    let mut paths: Vec<_> = names.filter_map(|name| path(strings, &name)).collect();
    if let Some(folder) = path(strings, moderation::LISTS.name) {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        paths.extend(entries.map(|entry| entry.path()));
        paths.push(folder);
    }
    paths
}

fn path(strings: &dyn Strings, name: &str) -> Option<PathBuf> {
    strings.get(name).filter(|path| !path.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn look(names: &[(&str, &Path)]) -> Files {
        let strings: BTreeMap<String, String> =
            names.iter().map(|(name, path)| ((*name).to_owned(), path.to_str().expect("a path").to_owned())).collect();
        Files(named(&strings).into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }

    #[test]
    fn a_change_shows_however_it_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let named =
            [("SECRET_KEY_FILE", at("key")), ("GATEWAY_CONFIG_FILE", at("settings")), ("GATEWAY_INSTANCE", at("x"))];
        let named: Vec<_> = named.iter().map(|(name, path)| (*name, path.as_path())).collect();
        let mut states = vec![look(&named)];
        fs::write(at("key"), "one").expect("writes");
        states.push(look(&named));
        fs::write(at("key"), "two, in place").expect("writes");
        states.push(look(&named));
        fs::write(at("new"), "two, in place").expect("writes");
        fs::rename(at("new"), at("key")).expect("replaces");
        states.push(look(&named));
        // As Kubernetes does it: a link to a folder, in whose place another is put.
        for generation in ["1", "2"] {
            fs::create_dir(at(generation)).expect("makes a folder");
            fs::write(at(generation).join("key"), "two, in place").expect("writes");
            std::os::unix::fs::symlink(generation, at("next")).expect("links");
            fs::rename(at("next"), at("data")).expect("replaces");
            let _ = fs::remove_file(at("key"));
            std::os::unix::fs::symlink("data/key", at("key")).expect("links");
            states.push(look(&named));
        }
        for (number, state) in states.iter().enumerate() {
            assert!(states[..number].iter().all(|before| before != state), "{number}: {state:?}");
        }
        assert_eq!(look(&named), states[states.len() - 1], "nothing has changed");
        assert_eq!(states[0].0.len(), 2, "a variable that is no file names none");
    }

    #[test]
    fn the_lists_of_moderation_are_looked_at_one_by_one() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("words.txt"), "").expect("writes");
        let named = [("GATEWAY_MODERATION_LISTS", folder.path())];
        let before = look(&named);
        fs::write(folder.path().join("words.txt"), "more").expect("writes");
        assert_ne!(look(&named), before);
        assert_eq!(before.0.len(), 2);
    }
}
