//! The files that a kernel has in its memory when it starts: busybox, the modules with which it
//! mounts the files of this machine, and the script that does so.

use super::archive::Kernel;
use crate::run;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

const INIT: &str = include_str!("initrd.sh");
/// What takes part in mounting them.
const MODULES: &[&str] = &["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// Makes it. Where it is.
pub(super) fn make(kernel: &Kernel) -> Result<PathBuf> {
    let tree = kernel.directory.join("initrd");
    if tree.exists() {
        fs::remove_dir_all(&tree)?;
    }
    fs::create_dir_all(tree.join("bin"))?;
    fs::create_dir_all(tree.join("modules"))?;
    fs::write(tree.join("init"), INIT)?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;
    let busybox = ["/usr/bin/busybox", "/bin/busybox", "/usr/sbin/busybox"].map(Path::new);
    let busybox = busybox.into_iter().find(|path| path.is_file()).context("no busybox")?;
    ensure!(
        is_static(busybox),
        "{} needs libraries, which the other machine doesn't have at first: install busybox-static \
         in its place",
        busybox.display()
    );
    fs::copy(busybox, tree.join("bin/busybox"))?;
    let mut order: Vec<String> = Vec::new();
    for module in MODULES {
        for path in needed(kernel, module)? {
            let name = unpack(&path, &tree.join("modules"))?;
            if !order.contains(&name) {
                order.push(name);
            }
        }
    }
    fs::write(tree.join("modules/order"), order.join("\n") + "\n")?;
    let archive = kernel.directory.join("initrd.cpio");
    let mut find =
        run::program("find").arg(".").current_dir(&tree).stdout(Stdio::piped()).spawn()?;
    let names = find.stdout.take().context("no output of find")?;
    let mut pack = run::program("busybox");
    pack.args(["cpio", "-o", "-H", "newc"]).current_dir(&tree).stdin(names);
    pack.stdout(fs::File::create(&archive)?).stderr(Stdio::null());
    run::succeed(&mut pack)?;
    find.wait()?;
    Ok(archive)
}

/// Whether a program needs no libraries.
fn is_static(program: &Path) -> bool {
    let mut ldd = run::program("ldd");
    !ldd.arg(program).output().is_ok_and(|output| output.status.success())
}

/// The files of a module and of what it needs, in the order in which they have to be loaded; none
/// where the kernel has it built in.
fn needed(kernel: &Kernel, module: &str) -> Result<Vec<PathBuf>> {
    let mut show = run::program("modprobe");
    show.arg("--dirname").arg(kernel.files()).arg("--set-version").arg(&kernel.release);
    let shown = run::output(show.args(["--show-depends", module]))?;
    let paths = shown.lines().filter_map(|line| line.strip_prefix("insmod "));
    Ok(paths.map(|path| PathBuf::from(path.trim())).collect())
}

/// Puts a module into `directory`, uncompressed. Its name there.
fn unpack(path: &Path, directory: &Path) -> Result<String> {
    let name = path.file_name().context("a module without a name")?.to_string_lossy();
    let Some((stem, "xz")) = name.rsplit_once('.') else {
        if !name.ends_with(".ko") {
            bail!("can't unpack the module {name}");
        }
        fs::copy(path, directory.join(&*name))?;
        return Ok(name.into_owned());
    };
    let mut unpack = run::program("busybox");
    unpack.arg("xzcat").arg(path).stdout(fs::File::create(directory.join(stem))?);
    run::succeed(&mut unpack)?;
    Ok(stem.to_owned())
}
