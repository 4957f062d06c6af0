//! How long it takes from rename(2) until a change is told: `cargo bench -p tierwall-watch`.

#![allow(missing_docs, clippy::unwrap_used)]

use policy::{Options, load};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tierwall_watch::{LoadStart, Watcher};

const EDITS: usize = 1000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for includes in [0, 10, 100, 1000] {
        let directory = TempDir::new().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let policy = "include = [\"conf.d/*.toml\"]\n[tiers]\nweb = { file = \"web.list\" }\n\
                      [[allow]]\nfrom = \"any\"\nto = \"*\"\nservice = \"tcp/80\"\n";
        fs::write(root.join("tierwall.toml"), policy).unwrap();
        fs::write(root.join("web.list"), "192.0.2.1").unwrap();
        fs::create_dir(root.join("conf.d")).unwrap();
        for number in 0..includes {
            let text = format!("[tiers]\nt{number} = [\"192.0.2.1\"]");
            fs::write(root.join(format!("conf.d/{number}.toml")), text).unwrap();
        }
        let mut times = latencies(&root).await;
        times.sort();
        println!(
            "{includes:>4} includes: median {:?}, 99th {:?}, worst {:?} of {EDITS}",
            times[EDITS / 2],
            times[EDITS * 99 / 100],
            times[EDITS - 1]
        );
    }
}

async fn latencies(root: &Path) -> Vec<Duration> {
    let options = Options { check_permissions: false, ..Options::default() };
    let start = LoadStart::now();
    let inputs = load(&root.join("tierwall.toml"), &options).inputs;
    let mut watcher = Watcher::new(&inputs, start).unwrap();
    let quiet = Duration::from_millis(200);
    while tokio::time::timeout(quiet, watcher.changed()).await.is_ok() {}

    let mut times = Vec::new();
    for number in 0..EDITS {
        let (list, beside) = (root.join("web.list"), root.join("beside"));
        let editor = std::thread::spawn(move || {
            fs::write(&beside, format!("192.0.2.{}", number % 250)).unwrap();
            // The watcher sleeps again by then.
            std::thread::sleep(Duration::from_millis(2));
            let before = Instant::now();
            fs::rename(&beside, &list).unwrap();
            before
        });
        tokio::time::timeout(Duration::from_secs(10), watcher.changed()).await.unwrap().unwrap();
        let told = Instant::now();
        times.push(told - editor.join().unwrap());
    }
    times
}
