//! Who a container's process runs as: numbers from the pod, or names that the image's own `/etc/passwd` and
//! `/etc/group` know.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::inside::open_inside;

/// Larger than any real one: what an image claims to be its user database is not read further.
const MAX_DATABASE: u64 = 4 << 20;

/// The identity of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub home: Option<String>,
}

/// What was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish<'a> {
    /// The image's `USER`: `user[:group]`, each a name or a number.
    pub image_user: &'a str,
    pub run_as_user: Option<i64>,
    pub run_as_username: &'a str,
    pub run_as_group: Option<i64>,
    pub supplemental_groups: &'a [i64],
    /// Whether the groups that the image gives the user are left out (`SupplementalGroupsPolicy: Strict`).
    pub strict_groups: bool,
}

/// The image's user database.
#[derive(Clone, Debug, Default)]
pub(crate) struct Database {
    pub passwd: String,
    pub group: String,
}

/// Why there is no such user.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("user group \"{0}\" is specified without user")]
    GroupAlone(i64),
    #[error("id {0} is out of range")]
    Range(i64),
}

impl Database {
    /// Reads the database below a root file system; links in it can't lead outside.
    pub(crate) fn read(rootfs: &Path) -> io::Result<Self> {
        Ok(Self {
            passwd: read_below(rootfs, "etc/passwd")?,
            group: read_below(rootfs, "etc/group")?,
        })
    }
}

fn read_below(rootfs: &Path, path: &str) -> io::Result<String> {
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, rootfs, directory, Mode::empty())?;
    let file = match open_inside(&root, Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(error) => return Err(error.into()),
    };
    if !file.metadata()?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(MAX_DATABASE).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn id(value: i64) -> Result<u32, UserError> {
    u32::try_from(value).map_err(|_| UserError::Range(value))
}

/// Decides who the process runs as.
pub(crate) fn resolve(wish: &Wish<'_>, database: &Database) -> Result<User, UserError> {
    let (user, group) = wish.image_user.split_once(':').unwrap_or((wish.image_user, ""));
    let mut found = if let Some(uid) = wish.run_as_user {
        database.user_by_id(id(uid)?)
    } else if !wish.run_as_username.is_empty() {
        database.user(wish.run_as_username)?
    } else {
        if wish.run_as_group.is_some() && user.is_empty() {
            return Err(UserError::GroupAlone(wish.run_as_group.unwrap_or_default()));
        }
        let mut found = database.user(if user.is_empty() { "0" } else { user })?;
        if !group.is_empty() {
            found.gid = database.group_id(group)?;
        }
        found
    };
    if let Some(gid) = wish.run_as_group {
        found.gid = id(gid)?;
    }
    let mut groups = vec![found.gid];
    if !wish.strict_groups {
        groups.append(&mut found.additional_gids);
    }
    for gid in wish.supplemental_groups {
        groups.push(id(*gid)?);
    }
    let mut seen = std::collections::HashSet::new();
    groups.retain(|gid| seen.insert(*gid));
    found.additional_gids = groups;
    Ok(found)
}

impl Database {
    fn users(&self) -> impl Iterator<Item = (&str, u32, u32, &str)> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            let home = fields.nth(1).unwrap_or_default();
            Some((name, uid.parse().ok()?, gid.parse().ok()?, home))
        })
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
            Some((name, gid.parse().ok()?, fields.next().unwrap_or_default()))
        })
    }

    fn user(&self, name: &str) -> Result<User, UserError> {
        if let Some((name, uid, gid, home)) = self.users().find(|(known, ..)| *known == name) {
            return Ok(self.member(name, uid, gid, home));
        }
        match name.parse() {
            Ok(uid) => Ok(self.user_by_id(uid)),
            Err(_) => Err(UserError::NoUser(name.to_owned())),
        }
    }

    fn user_by_id(&self, uid: u32) -> User {
        match self.users().find(|(_, known, ..)| *known == uid) {
            Some((name, uid, gid, home)) => self.member(name, uid, gid, home),
            None => User {
                uid,
                ..User::default()
            },
        }
    }

    fn member(&self, name: &str, uid: u32, gid: u32, home: &str) -> User {
        let groups = self
            .groups()
            .filter(|(_, _, members)| members.split(',').any(|m| m == name));
        User {
            uid,
            gid,
            additional_gids: groups.map(|(_, gid, _)| gid).collect(),
            home: Some(home.to_owned()).filter(|h| !h.is_empty()),
        }
    }

    fn group_id(&self, name: &str) -> Result<u32, UserError> {
        if let Some((_, gid, _)) = self.groups().find(|(known, ..)| *known == name) {
            return Ok(gid);
        }
        name.parse().map_err(|_| UserError::NoGroup(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Database {
        Database {
            passwd: "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/false\nbroken\n".into(),
            group: "root:x:0:\nwww:x:34:\nextra:x:50:other,web\nlogs:x:51:web\n".into(),
        }
    }

    #[test]
    fn names_and_numbers_are_looked_up_in_the_image() {
        let wish = |image_user| Wish {
            image_user,
            ..Wish::default()
        };
        let user = |uid, gid, groups: &[u32]| (uid, gid, groups.to_vec());
        for (wish, wanted) in [
            (wish(""), Ok(user(0, 0, &[0]))),
            (wish("web"), Ok(user(33, 34, &[34, 50, 51]))),
            (wish("33"), Ok(user(33, 34, &[34, 50, 51]))),
            (wish("web:logs"), Ok(user(33, 51, &[51, 50]))),
            (wish("1000"), Ok(user(1000, 0, &[0]))),
            (wish("1000:2000"), Ok(user(1000, 2000, &[2000]))),
            (wish("nobody"), Err(UserError::NoUser("nobody".into()))),
            (wish("web:none"), Err(UserError::NoGroup("none".into()))),
            (
                Wish {
                    run_as_user: Some(1000),
                    ..wish("web")
                },
                Ok(user(1000, 0, &[0])),
            ),
            (
                Wish {
                    run_as_user: Some(1000),
                    run_as_group: Some(7),
                    ..wish("web")
                },
                Ok(user(1000, 7, &[7])),
            ),
            (
                Wish {
                    run_as_username: "web",
                    ..wish("")
                },
                Ok(user(33, 34, &[34, 50, 51])),
            ),
            (
                Wish {
                    run_as_group: Some(7),
                    ..wish("")
                },
                Err(UserError::GroupAlone(7)),
            ),
            (
                Wish {
                    run_as_user: Some(-1),
                    ..wish("")
                },
                Err(UserError::Range(-1)),
            ),
            (
                Wish {
                    supplemental_groups: &[9, 34],
                    ..wish("web")
                },
                Ok(user(33, 34, &[34, 50, 51, 9])),
            ),
            (
                Wish {
                    supplemental_groups: &[9],
                    strict_groups: true,
                    ..wish("web")
                },
                Ok(user(33, 34, &[34, 9])),
            ),
        ] {
            let found = resolve(&wish, &database()).map(|u| (u.uid, u.gid, u.additional_gids));
            assert_eq!(found, wanted, "{wish:?}");
        }
    }

    #[test]
    fn a_link_in_the_image_cannot_lead_to_the_hosts_users() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", folder.path().join("etc/passwd")).unwrap();
        std::os::unix::fs::symlink("../../../../etc/group", folder.path().join("etc/group")).unwrap();
        let error = Database::read(folder.path()).map(|d| (d.passwd, d.group));
        // The second link leads to itself.
        assert!(error.is_err() || error.unwrap() == (String::new(), String::new()));
    }
}
