//! What concerns no policy is not told, and what is in the making waits until it is made.

#![allow(clippy::unwrap_used)]

mod site;

use site::{Site, policy_of, replace};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const POLICY: &str = "include = [\"conf.d/*.toml\"]\n[tiers]\nweb = { file = \"web.list\" }";

async fn site() -> Site {
    let files = [
        ("etc/tierwall.toml", &*policy_of(POLICY)),
        ("etc/web.list", "192.0.2.1"),
        ("etc/conf.d/db.toml", "[tiers]\ndb = [\"192.0.2.2\"]"),
    ];
    Site::at("etc/tierwall.toml", &files).await
}

const LOADED: &str = "db 192.0.2.2; web 192.0.2.1";

#[tokio::test]
async fn other_files_beside() {
    let mut site = site().await;
    assert_eq!(site.loaded, LOADED);
    site.no_change(|root| {
        for directory in ["etc", "etc/conf.d"] {
            for name in
                ["4913", ".tierwall.toml.swp", ".db.toml.swp", "web.list~", "README", "db.toml.bak"]
            {
                let path = root.join(directory).join(name);
                fs::write(&path, "text").unwrap();
                fs::write(&path, "other text").unwrap();
                let renamed = path.with_extension("other");
                fs::rename(&path, &renamed).unwrap();
                fs::remove_file(renamed).unwrap();
            }
            fs::create_dir(root.join(directory).join("directory")).unwrap();
            fs::write(root.join(directory).join("directory/tierwall.toml"), "text").unwrap();
        }
        fs::write(root.join("tierwall.toml"), "text").unwrap();
    })
    .await;
}

#[tokio::test]
async fn reading() {
    let mut site = site().await;
    site.no_change(|root| {
        fs::read(root.join("etc/tierwall.toml")).unwrap();
        fs::read(root.join("etc/conf.d/db.toml")).unwrap();
        fs::read_dir(root.join("etc/conf.d")).unwrap().for_each(|entry| drop(entry.unwrap()));
    })
    .await;
}

/// As vim does it, and emacs, and `sed -i`: the files are never seen missing.
#[tokio::test]
async fn an_editor_saves() {
    fn vim(path: &Path, text: &str) {
        let backup = path.with_file_name(format!("{}~", path.file_name().unwrap().display()));
        let probe = path.with_file_name("4913");
        fs::write(&probe, "").unwrap();
        fs::remove_file(&probe).unwrap();
        fs::rename(path, &backup).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        let mut file = File::create(path).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        file.write_all(text.as_bytes()).unwrap();
        file.sync_all().unwrap();
        drop(file);
        fs::remove_file(&backup).unwrap();
    }
    for _ in 0..3 {
        let mut site = site().await;
        let loads = site.count(|root| vim(&root.join("etc/web.list"), "192.0.2.3")).await;
        assert_eq!((loads, &*site.loaded), (1, "db 192.0.2.2; web 192.0.2.3"));
        let text = "[tiers]\ndb = [\"192.0.2.4\"]";
        let loads = site.count(move |root| vim(&root.join("etc/conf.d/db.toml"), text)).await;
        assert_eq!((loads, &*site.loaded), (1, "db 192.0.2.4; web 192.0.2.3"));
        // One file after the other: the first save waits for nobody.
        let loads = site
            .count(move |root| {
                fs::rename(root.join("etc/conf.d/db.toml"), root.join("etc/conf.d/db.toml~"))
                    .unwrap();
                replace(&root.join("etc/web.list"), "192.0.2.5");
                fs::rename(root.join("etc/conf.d/db.toml~"), root.join("etc/conf.d/db.toml"))
                    .unwrap();
            })
            .await;
        assert_eq!((loads, &*site.loaded), (1, "db 192.0.2.4; web 192.0.2.5"));
    }
}

/// A directory that is exchanged by two renames is never seen missing.
#[tokio::test]
async fn a_directory_is_exchanged() {
    let mut site = site().await;
    let loads = site
        .count(|root| {
            fs::create_dir(root.join("new")).unwrap();
            fs::write(root.join("new/db.toml"), "[tiers]\ndb = [\"192.0.2.7\"]").unwrap();
            fs::rename(root.join("etc/conf.d"), root.join("old")).unwrap();
            fs::rename(root.join("new"), root.join("etc/conf.d")).unwrap();
        })
        .await;
    assert_eq!((loads, &*site.loaded), (1, "db 192.0.2.7; web 192.0.2.1"));
}

#[tokio::test]
async fn a_writer_that_has_not_finished() {
    let mut site = site().await;
    let loads = site
        .count(|root| {
            let mut list = File::create(root.join("etc/web.list")).unwrap();
            let mut new = File::create(root.join("etc/conf.d/new.toml")).unwrap();
            for text in ["[tiers]\n", "new = [\"192.0.2.8\"]\n"] {
                list.write_all(b"192.0.2.3\n").unwrap();
                new.write_all(text.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(300));
            }
            drop((list, new));
        })
        .await;
    assert!((1..=2).contains(&loads), "{loads} loads");
    assert_eq!(site.loaded, "db 192.0.2.2; new 192.0.2.8; web 192.0.2.3");
}
