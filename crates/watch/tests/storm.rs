//! Many edits at once become few changes, and the last one is never missed.

#![allow(clippy::unwrap_used)]

mod site;

use site::{LONG, Site, load, meaning, policy_of, replace};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tierwall_watch::{LoadStart, Watcher};
use tokio::time::timeout;

const LIST: &str = "[tiers]\nweb = { file = \"web.list\" }";

async fn site() -> Site {
    Site::new(&[("tierwall.toml", &policy_of(LIST)), ("web.list", "192.0.2.1")]).await
}

#[tokio::test]
async fn a_thousand_edits_become_few_changes() {
    let mut site = site().await;
    let loads = site
        .count(|root| {
            for number in 0..1000 {
                let text = format!("10.0.{}.{}", number / 250, number % 250);
                match number % 2 {
                    0 => replace(&root.join("web.list"), &text),
                    _ => fs::write(root.join("web.list"), text).unwrap(),
                }
            }
        })
        .await;
    assert_eq!(site.loaded, "web 10.0.3.249");
    assert!((1..1000).contains(&loads), "{loads} loads");
}

#[tokio::test]
async fn what_is_in_the_queue_is_one_change() {
    let mut site = site().await;
    for number in 0..1000 {
        replace(&site.root.join("web.list"), &format!("10.0.{}.{}", number / 250, number % 250));
    }
    assert_eq!(site.quiet().await, 1);
    assert_eq!(site.loaded, "web 10.0.3.249");
}

/// More events than the queue holds: those that count are lost, and that is told.
#[tokio::test]
async fn an_overflowing_queue_is_a_change() {
    let mut site = site().await;
    let holds = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    for number in 0..=holds.trim().parse::<u32>().unwrap() / 2 {
        let path = site.root.join(number.to_string());
        File::create(&path).unwrap();
        fs::remove_file(path).unwrap();
    }
    replace(&site.root.join("web.list"), "192.0.2.2");
    assert!(site.quiet().await >= 1);
    assert_eq!(site.loaded, "web 192.0.2.2");
    site.change("web 192.0.2.3", |root| replace(&root.join("web.list"), "192.0.2.3")).await;
}

/// Others go on while a busy directory fills the queue with what concerns nobody.
#[tokio::test]
async fn a_busy_directory_stops_nobody() {
    let mut site = site().await;
    let root = site.root.clone();
    let turns = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&turns);
    let writer = std::thread::spawn(move || {
        let end = Instant::now() + Duration::from_secs(2);
        let mut number = 0u64;
        while Instant::now() < end {
            // Where the watcher gets no processor the queue would overflow, which is a change.
            if number > 200 * (1 + seen.load(Ordering::Relaxed)) {
                std::thread::yield_now();
                continue;
            }
            File::create(root.join(format!("busy{}", number % 2))).unwrap();
            number += 1;
        }
    });
    while !writer.is_finished() {
        tokio::select! {
            biased;
            result = site.watcher.changed() => panic!("nothing changed: {result:?}"),
            () = tokio::time::sleep(Duration::from_millis(1)) => {
                turns.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    writer.join().unwrap();
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns > 50, "{turns} turns in 2 s");
}

#[tokio::test]
async fn a_dropped_future_loses_nothing() {
    let mut site = site().await;
    for number in 1..200 {
        replace(&site.root.join("web.list"), &format!("192.0.2.{number}"));
        // The file is away for a moment, so that the change has to wait for it.
        if number % 3 == 0 {
            fs::rename(site.root.join("web.list"), site.root.join("away")).unwrap();
        }
        for turn in 0..5 {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                result = site.watcher.changed() => {
                    result.unwrap();
                    site.reload();
                }
            }
            if turn == 2 && number % 3 == 0 {
                fs::rename(site.root.join("away"), site.root.join("web.list")).unwrap();
            }
        }
        // A change that was told to a dropped future would never be seen.
        while site.loaded != format!("web 192.0.2.{number}") {
            timeout(LONG, site.watcher.changed()).await.unwrap().unwrap();
            site.reload();
        }
    }
}

/// Between a load and its watch, at the start and where a load found more to depend on.
#[tokio::test]
async fn a_change_between_load_and_watch() {
    for number in 0..50 {
        let mut site = site().await;
        let root = site.root.clone();
        // All is older than a load's beginning can be mistaken for.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let start = LoadStart::now();
        let loaded = load(&site.policy);
        let edit: fn(&Path) = [
            |root: &Path| replace(&root.join("web.list"), "192.0.2.2"),
            |root: &Path| fs::write(root.join("web.list"), "192.0.2.2").unwrap(),
            |root: &Path| {
                fs::write(root.join("b"), "192.0.2.2").unwrap();
                fs::remove_file(root.join("web.list")).unwrap();
                symlink("b", root.join("web.list")).unwrap();
            },
            |root: &Path| fs::remove_file(root.join("web.list")).unwrap(),
            |root: &Path| fs::remove_dir_all(root).unwrap(),
        ][number % 5];
        edit(&root);
        site.watcher = Watcher::new(&loaded.inputs, start).unwrap();
        timeout(LONG, site.watcher.changed()).await.unwrap().unwrap();
        site.reload();
        assert_eq!(site.loaded, meaning(&load(&site.policy)));
        assert_ne!(site.loaded, "web 192.0.2.1");
    }
    for _ in 0..10 {
        let mut site = site().await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        fs::create_dir(site.root.join("lists")).unwrap();
        fs::write(site.root.join("lists/b.list"), "192.0.2.2").unwrap();
        let both =
            policy_of("[tiers]\nb = { file = \"lists/b.list\" }\nweb = { file = \"web.list\" }");
        replace(&site.policy, &both);
        timeout(LONG, site.watcher.changed()).await.unwrap().unwrap();
        let start = LoadStart::now();
        let loaded = load(&site.policy);
        replace(&site.root.join("lists/b.list"), "192.0.2.3");
        site.watcher.update(&loaded.inputs, start).unwrap();
        site.quiet().await;
        assert_eq!(site.loaded, "b 192.0.2.3; web 192.0.2.1");
    }
}

/// Where nothing happened between load and watch nothing is told, or every start would load twice.
#[tokio::test]
async fn nothing_between_load_and_watch() {
    let mut site = site().await;
    // The directories above are everybody's, and may have changed just now.
    let mut told = true;
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let start = LoadStart::now();
        let loaded = load(&site.policy);
        site.watcher = Watcher::new(&loaded.inputs, start).unwrap();
        told = timeout(Duration::from_millis(150), site.watcher.changed()).await.is_ok();
        if !told {
            break;
        }
    }
    assert!(!told);
}

/// All kinds of edits in random order and at random moments, several times what the daemon needs
/// for a load; whenever they stop, what was loaded last is what the files say.
#[tokio::test]
async fn random_edits_are_never_missed() {
    let policy = policy_of(
        "include = [\"conf.d/*.toml\", \"tiers/*/members.toml\"]\n\
         [tiers]\nweb = { file = \"lists/web.list\" }",
    );
    let files = [
        ("a/tierwall.toml", &*policy),
        ("a/lists", "-> ../one"),
        ("one/web.list", "192.0.2.1"),
        ("two/web.list", "-> ../three/file"),
        ("three/file", "192.0.2.1"),
        ("b/tierwall.toml", &*policy),
        ("b/lists", "-> ../two"),
        ("current", "-> a"),
        // Never deleted, or what is linked to it later looks like a file in the making.
        ("kept", "192.0.2.2"),
    ];
    let mut site = Site::at("current/tierwall.toml", &files).await;
    // The seed is told on failure.
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ u64::from(std::process::id()));
    let mut good = 0;
    for round in 0..60 {
        let root = site.root.clone();
        let mut thread_random = Random(random.next());
        let edits = std::thread::spawn(move || {
            for _ in 0..1 + thread_random.below(40) {
                edit(&root, &mut thread_random);
                if thread_random.below(3) == 0 {
                    std::thread::sleep(Duration::from_micros(thread_random.below(3000)));
                }
            }
        });
        while !edits.is_finished() {
            if let Ok(result) = timeout(Duration::from_micros(300), site.watcher.changed()).await {
                result.unwrap();
                site.reload();
            }
        }
        edits.join().unwrap();
        site.quiet().await;
        assert_eq!(site.loaded, meaning(&load(&site.policy)), "round {round}, {random:?}");
        good += u32::from(site.loaded.contains("web "));
    }
    assert!(good > 20, "only {good} of 60 ended with a good policy");
}

/// xorshift64
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// One edit. Some find nothing to do, since an earlier one took it away.
fn edit(root: &Path, random: &mut Random) {
    let member = format!("10.0.{}.{}", random.below(200), random.below(200));
    let tier = ["c", "d"][usize::try_from(random.below(2)).unwrap()];
    let tiers = format!("[tiers]\n{tier} = [\"{member}\"]");
    let more_tiers = format!("[tiers]\nmore_{tier} = [\"{member}\"]");
    let side = ["a", "b"][usize::try_from(random.below(2)).unwrap()];
    let list = ["one/web.list", "two/web.list", "three/file"];
    let list = root.join(list[usize::try_from(random.below(3)).unwrap()]);
    let include = root.join(side).join("conf.d");
    let file = include.join(format!("{tier}.toml"));
    let tier_directory = root.join(side).join("tiers").join(tier);
    let to = ["a", "b"][usize::try_from(random.below(2)).unwrap()];
    let to_list = ["../one", "../two"][usize::try_from(random.below(2)).unwrap()];
    let link = |target: &str, path: &Path, by_rename: bool| {
        let new = root.join("link");
        let at = if by_rename { &new } else { path };
        let _ = fs::remove_file(at);
        symlink(target, at)?;
        if by_rename { fs::rename(new, path) } else { Ok(()) }
    };
    let by_rename = random.below(2) == 0;
    let beside = root.join("beside");
    let _ = match random.below(16) {
        0 | 1 => fs::write(&beside, &member).and_then(|()| fs::rename(&beside, list)),
        2 | 3 => fs::write(list, &member),
        4 if random.below(3) == 0 => fs::remove_file(list),
        5 => fs::hard_link(root.join("kept"), list),
        6 => fs::create_dir(include),
        7 => fs::write(file, tiers),
        8 => fs::write(&beside, tiers).and_then(|()| fs::rename(&beside, file)),
        9 => fs::remove_file(file),
        10 => fs::remove_dir_all(include),
        11 => fs::create_dir_all(&tier_directory)
            .and_then(|()| fs::write(tier_directory.join("members.toml"), more_tiers)),
        12 => fs::remove_dir_all(tier_directory),
        13 => fs::rename(include, root.join(to).join("conf.d")),
        14 => link(to, &root.join("current"), by_rename),
        _ => link(to_list, &root.join(side).join("lists"), by_rename),
    };
    if random.below(4) == 0 {
        let slow = File::options().append(true).open(root.join("one/web.list"));
        if let Ok(mut file) = slow {
            let _ = file.write_all(format!("\n{member}\n").as_bytes());
        }
    }
}
