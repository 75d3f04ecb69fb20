//! The order of groups and versions in discovery, and how the server's own APIServices say it: upstream's priorities.

/// How a group version stands among the others; the larger comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Priority {
    /// `groupPriorityMinimum`: of the group among the groups.
    pub(crate) group: i32,
    /// `versionPriority`: of the version in its group.
    pub(crate) version: i32,
}

/// Group, version and their priorities, as upstream's API server has them.
const PRIORITIES: [(&str, &str, i32, i32); 22] = [
    ("", "v1", 18_000, 1),
    ("apps", "v1", 17_800, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("resource.k8s.io", "v1", 16_200, 20),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
    ("storagemigration.k8s.io", "v1", 15_800, 15),
];

/// The group that the APIServices are of themselves. No APIService stands for it, and it comes before all others.
pub(crate) const REGISTRATION: &str = "apiregistration.k8s.io";

/// The priority of a group version; `None` for one that has no APIService.
pub(crate) fn of(group: &str, version: &str) -> Option<Priority> {
    PRIORITIES
        .iter()
        .find(|(its_group, its_version, ..)| *its_group == group && *its_version == version)
        .map(|(_, _, group, version)| Priority {
            group: *group,
            version: *version,
        })
}

/// The place of a group in a listing, the smaller first: by priority, then by name.
pub(crate) fn place(group: &str) -> (i32, &str) {
    if group == REGISTRATION {
        return (i32::MIN, group);
    }
    let known = PRIORITIES.iter().find(|(its, ..)| *its == group);
    (-known.map_or(0, |(_, _, priority, _)| *priority), group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::group_versions;

    #[test]
    fn every_group_version_that_is_served_has_a_priority() {
        let catalogue = skiff_api::catalogue::builtin();
        for (group, version) in group_versions(&catalogue) {
            let has = of(&group, &version).is_some();
            assert_eq!(has, group != REGISTRATION, "{group}/{version}");
        }
    }
}
