//! What building and testing need besides Rust, and how a machine comes by it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use clap::Args;

use crate::postgresql;
use crate::programs::{self, succeeds};

/// The Python that runs the driver tests.
pub(crate) const VENV: &str = "target/venv";
const REQUIREMENTS: &str = "e2e/requirements.txt";
/// The Python that checks and tests the Django package.
pub(crate) const PACKAGE_VENV: &str = "target/venv-package";
const PACKAGE_REQUIREMENTS: &str = "python/requirements.txt";
/// The Python that runs the Django package's tests on newer versions of Django, where there is one new enough for them.
pub(crate) const NEWER_VENV: &str = "target/venv-newer";
const NEWER_REQUIREMENTS: &str = "python/requirements-newer.txt";
/// Newest first.
const NEWER_PYTHONS: [&str; 3] = ["python3.14", "python3.13", "python3.12"];
/// Which packages of Node.js the driver tests need, and where they are installed.
const NODE_LISTS: &str = "e2e/node";
const NODE_FOLDER: &str = "target/node";

/// What to set up.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Also what the benchmarks compare with
    #[arg(long)]
    pub(crate) bench: bool,
    /// Also what network namespaces with packet filters take, where they may be had
    #[arg(long)]
    pub(crate) namespaces: bool,
    /// Also PostgreSQL's servers in other versions, where they may be had
    #[arg(long)]
    pub(crate) postgresql: bool,
    /// Also a browser
    #[arg(long)]
    pub(crate) browser: bool,
    /// Also PostGIS, and the library of maps that Django reads with
    #[arg(long)]
    pub(crate) postgis: bool,
}

/// Something that Debian's packages provide.
struct Need {
    /// What it is, for people.
    name: &'static str,
    packages: &'static [&'static str],
    is_met: fn() -> bool,
}

const POSTGRESQL: Need = Need {
    name: "PostgreSQL",
    packages: &["postgresql", "postgresql-client"],
    is_met: || highwater_lab::find_postgresql().is_ok(),
};

/// The build of the SQL parser reads C headers with it. Debian 12 has the parts that matter in two small packages.
const LIBCLANG_12: Need =
    Need { name: "libclang", packages: &["libclang1-14", "libclang-common-14-dev"], is_met: has_libclang };
const LIBCLANG: Need = Need { name: "libclang", packages: &["libclang-dev"], is_met: has_libclang };

/// The build of the allocator runs it.
const MAKE: Need = Need { name: "make", packages: &["make"], is_met: || succeeds("make", &["--version"]) };

/// The tests of the Rust client link it.
const LIBPQ: Need = Need {
    name: "libpq",
    packages: &["libpq-dev"],
    is_met: || succeeds("cc", &["-shared", "-o", "/dev/null", "-lpq"]),
};

const PYTHON: Need = Need {
    name: "Python with venv",
    packages: &["python3", "python3-venv"],
    is_met: || {
        Path::new(VENV).exists() || succeeds("python3", &["-c", "import venv, ensurepip"]) || has_virtualenv("python3")
    },
};

const NODE: Need = Need {
    name: "Node.js with npm",
    packages: &["nodejs", "npm"],
    is_met: || succeeds("node", &["--version"]) && succeeds("npm", &["--version"]),
};

/// The tutorial for Django is a page of commands, and this is one of them.
const CURL: Need = Need { name: "curl", packages: &["curl"], is_met: || succeeds("curl", &["--version"]) };

const CHROMIUM: Need = Need {
    name: "Chromium",
    packages: &["chromium"],
    is_met: || succeeds("chromium", &["--version"]) || succeeds("chromium-browser", &["--version"]),
};

/// It brings GDAL.
const POSTGIS: Need = Need { name: "PostGIS", packages: &["postgresql-postgis"], is_met: has_postgis };

const PGBOUNCER: Need = Need {
    name: "PgBouncer",
    packages: &["pgbouncer"],
    // Debian keeps it out of the PATH of ordinary users.
    is_met: || succeeds("pgbouncer", &["--version"]) || Path::new("/usr/sbin/pgbouncer").exists(),
};

const IPROUTE: Need = Need { name: "ip", packages: &["iproute2"], is_met: || succeeds("ip", &["-V"]) };
const NFTABLES: Need = Need { name: "nft", packages: &["nftables"], is_met: || succeeds("nft", &["--version"]) };

/// Installs packages without letting any of them start a server: Debian's `postgresql` would make and start a cluster of
/// its own on port 5432. Both switches go back to what they were.
const INSTALL: &str = r#"
export DEBIAN_FRONTEND=noninteractive
apt="apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=120"
policy=/usr/sbin/policy-rc.d
creation=/etc/postgresql-common/createcluster.conf
restore() {
    [ -z "$own_policy" ] || rm -f "$policy"
    [ ! -f "$creation.before" ] || mv "$creation.before" "$creation"
}
trap restore EXIT
trap 'exit 1' INT TERM
own_policy=
if [ ! -e "$policy" ]; then
    own_policy=yes
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod +x "$policy"
fi
apt-get -q update
case " $* " in
*" postgresql "*)
    $apt install postgresql-common
    cp -p "$creation" "$creation.before"
    echo 'create_main_cluster = false' >> "$creation"
    ;;
esac
$apt install "$@"
"#;

/// Installs what is missing, or says in one line what to install.
pub(crate) fn run(options: Options) -> Result<()> {
    let mut needs = vec![POSTGRESQL, MAKE, LIBPQ, if is_debian_12() { LIBCLANG_12 } else { LIBCLANG }];
    if Path::new(REQUIREMENTS).exists() {
        needs.extend([PYTHON, NODE, CURL]);
    }
    if options.browser {
        needs.push(CHROMIUM);
    }
    if options.postgis {
        needs.push(POSTGIS);
    }
    if options.bench {
        needs.push(PGBOUNCER);
    }
    if options.namespaces && root_shell().is_some() {
        needs.extend([IPROUTE, NFTABLES]);
    }
    needs.retain(|need| !(need.is_met)());
    if !needs.is_empty() {
        install(&needs)?;
    }
    venv(VENV, REQUIREMENTS, "python3")?;
    venv(PACKAGE_VENV, PACKAGE_REQUIREMENTS, "python3")?;
    if let Some(python) = newer_python() {
        venv(NEWER_VENV, NEWER_REQUIREMENTS, &python)?;
    }
    node_modules(Path::new(NODE_LISTS), Path::new(NODE_FOLDER))?;
    if options.postgresql && postgresql::IS_AVAILABLE {
        node_modules(Path::new(postgresql::LISTS), Path::new(postgresql::FOLDER))?;
    }
    Ok(())
}

fn install(needs: &[Need]) -> Result<()> {
    let names = needs.iter().map(|need| need.name).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = needs.iter().flat_map(|need| need.packages).copied().collect();
    let Some(mut shell) = root_shell() else {
        bail!("missing: {names}; run: sudo apt-get install {}", packages.join(" "));
    };
    println!("missing: {names}");
    programs::run(shell.args(["-ec", INSTALL, "setup"]).args(&packages))?;
    match needs.iter().find(|need| !(need.is_met)()) {
        Some(need) => bail!("{} is still missing", need.name),
        None => Ok(()),
    }
}

/// A shell that may install packages, if we may have one without asking anybody.
fn root_shell() -> Option<Command> {
    if !succeeds("apt-get", &["--version"]) {
        None
    } else if succeeds("sh", &["-c", "test \"$(id -u)\" = 0"]) {
        Some(Command::new("sh"))
    } else if succeeds("sudo", &["-n", "true"]) {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "sh"]);
        Some(sudo)
    } else {
        None
    }
}

/// A Python that the newer versions of Django run on: in the PATH, or one of pyenv's.
fn newer_python() -> Option<String> {
    let pyenv = programs::output(Command::new("pyenv").arg("root")).unwrap_or_default();
    let mut of_pyenv: Vec<PathBuf> = children(Path::new(pyenv.trim()).join("versions")).collect();
    of_pyenv.sort();
    let named = NEWER_PYTHONS.iter().flat_map(|name| {
        let own = of_pyenv.iter().rev().map(|version| version.join("bin").join(name).to_string_lossy().into_owned());
        std::iter::once((*name).to_owned()).chain(own).collect::<Vec<_>>()
    });
    named.into_iter().find(|python| succeeds(python, &["-c", "import ensurepip, venv"]))
}

/// Makes a Python of its own in a folder, again whenever the list of its packages changes.
fn venv(folder: &str, requirements: &str, python: &str) -> Result<()> {
    let Ok(wanted) = fs::read_to_string(requirements) else { return Ok(()) };
    let installed = Path::new(folder).join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    let mut maker = Command::new(python);
    maker.args(["-m", if has_virtualenv(python) { "virtualenv" } else { "venv" }, "--clear", folder]);
    programs::run(&mut maker)?;
    let pip = Path::new(folder).join("bin/python");
    programs::run(Command::new(pip).args([
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "-r",
        requirements,
    ]))?;
    Ok(fs::write(installed, wanted)?)
}

/// Installs the packages of npm that are listed in a folder, again whenever the list of them changes.
fn node_modules(lists: &Path, folder: &Path) -> Result<()> {
    let wanted = fs::read_to_string(lists.join("package-lock.json"))?;
    let installed = folder.join("installed.json");
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    for list in ["package.json", "package-lock.json"] {
        fs::copy(lists.join(list), folder.join(list))?;
    }
    programs::run(Command::new("npm").args(["ci", "--silent", "--no-fund", "--no-audit"]).current_dir(folder))?;
    Ok(fs::write(installed, wanted)?)
}

fn has_virtualenv(python: &str) -> bool {
    succeeds(python, &["-m", "virtualenv", "--version"])
}

fn is_debian_12() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| text.contains("VERSION_CODENAME=bookworm"))
}

/// The library, and the headers of the compiler that it belongs to; the crate `clang-sys` looks in these folders and in
/// `LIBCLANG_PATH`.
fn has_libclang() -> bool {
    let places =
        ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    let mut folders: Vec<PathBuf> = places.iter().map(PathBuf::from).collect();
    folders
        .extend(children("/usr/lib").filter(|path| file_name(path).starts_with("llvm")).map(|path| path.join("lib")));
    folders.extend(std::env::var_os("LIBCLANG_PATH").map(PathBuf::from));
    let is_library = |path: &PathBuf| file_name(path).starts_with("libclang") && file_name(path).contains(".so");
    let is_compiler = |path: &PathBuf| path.join("include/stddef.h").exists();
    folders.iter().any(|folder| children(folder).any(|path| is_library(&path) && !file_name(&path).contains("-cpp")))
        && folders.iter().any(|folder| children(folder.join("clang")).any(|path| is_compiler(&path)))
}

/// Where the servers that the lab runs look for extensions.
fn has_postgis() -> bool {
    let Ok(bin) = highwater_lab::find_postgresql() else { return false };
    let share = programs::output(Command::new(bin.join("pg_config")).arg("--sharedir")).unwrap_or_default();
    Path::new(share.trim()).join("extension/postgis.control").exists()
}

fn children(folder: impl AsRef<Path>) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
