//! Removes images that nothing uses when the disk fills up: upstream's thresholds of 85 and 80 percent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1::{Image, ImageSpec};
use skiff_informer::EventType;
use skiff_informer::events::reference_to_node;

use crate::shared::Shared;

const HIGH_PERCENT: u64 = 85;
const LOW_PERCENT: u64 = 80;
/// Upstream's `ImageGCPeriod`: nothing tells of a disk that fills up.
const PERIOD: Duration = Duration::from_secs(300);
/// Upstream's `imageMinimumGCAge`.
const LEAST_AGE: SignedDuration = SignedDuration::from_secs(120);

/// When an image was first and last seen, and in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    first: Timestamp,
    used: Timestamp,
}

/// How many bytes have to go, of a file system with so many in all and free.
fn excess(capacity: u64, available: u64) -> u64 {
    let used = capacity.saturating_sub(available);
    if u128::from(used) * 100 < u128::from(capacity) * u128::from(HIGH_PERCENT) {
        return 0;
    }
    let target = u128::from(capacity) * u128::from(LOW_PERCENT) / 100;
    u64::try_from(u128::from(used).saturating_sub(target)).unwrap_or(u64::MAX)
}

/// The images to remove for so many bytes: unused, not pinned, old enough; the longest unused first.
fn choose<'a>(
    images: &'a [Image],
    seen: &BTreeMap<String, Seen>,
    used: &BTreeSet<String>,
    mut bytes: u64,
    now: Timestamp,
) -> Vec<&'a Image> {
    let mut candidates: Vec<(Seen, &Image)> = images
        .iter()
        .filter(|image| !image.pinned && !used.contains(&image.id))
        .filter_map(|image| Some((*seen.get(&image.id)?, image)))
        .filter(|(seen, _)| now.duration_since(seen.first) >= LEAST_AGE)
        .collect();
    candidates.sort_by_key(|(seen, image)| (seen.used, seen.first, image.id.clone()));
    let mut chosen = Vec::new();
    for (_, image) in candidates {
        if bytes == 0 {
            break;
        }
        bytes = bytes.saturating_sub(image.size);
        chosen.push(image);
    }
    chosen
}

/// Looks after the images until shutdown.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut seen = BTreeMap::new();
    loop {
        if let Err(error) = collect(&shared, &mut seen).await {
            tracing::debug!(%error, "images not looked after");
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = shared.shutdown.cancelled() => return,
        }
    }
}

async fn collect(shared: &Shared, seen: &mut BTreeMap<String, Seen>) -> crate::cri::Result<()> {
    let now = Timestamp::now();
    let (images, containers) = tokio::try_join!(shared.cri.images_present(), shared.cri.containers(None))?;
    let in_use = containers
        .iter()
        .flat_map(|container| [&container.image_id, &container.image_ref]);
    let named: BTreeSet<&String> = in_use.filter(|name| !name.is_empty()).collect();
    let is_used =
        |image: &Image| named.contains(&image.id) || image.repo_digests.iter().any(|d| named.contains(d));
    let used: BTreeSet<String> = images
        .iter()
        .filter(|i| is_used(i))
        .map(|i| i.id.clone())
        .collect();
    seen.retain(|id, _| images.iter().any(|image| image.id == *id));
    for image in &images {
        let entry = seen.entry(image.id.clone()).or_insert(Seen {
            first: now,
            used: Timestamp::UNIX_EPOCH,
        });
        if used.contains(&image.id) {
            entry.used = now;
        }
    }
    let filesystems = shared.cri.image_filesystems().await?;
    let mount = filesystems.iter().find_map(|usage| usage.fs_id.as_ref());
    let Some(stat) = mount.and_then(|id| nix::sys::statvfs::statvfs(Path::new(&id.mountpoint)).ok()) else {
        return Ok(());
    };
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    let excess = excess(bytes(stat.blocks()), bytes(stat.blocks_available()));
    let chosen = choose(&images, seen, &used, excess, now);
    let mut freed = 0u64;
    for image in chosen {
        let spec = ImageSpec {
            image: image.id.clone(),
            ..ImageSpec::default()
        };
        match shared.cri.remove_image(spec).await {
            Ok(()) => freed = freed.saturating_add(image.size),
            Err(error) => tracing::warn!(image = image.id, %error, "image not removed"),
        }
    }
    if freed < excess {
        let message = format!(
            "Failed to garbage collect required amount of images. Attempted to free {excess} bytes, but only found {freed} bytes eligible to free."
        );
        shared.recorder.record(
            reference_to_node(&shared.node_name),
            EventType::Warning,
            "FreeDiskSpaceFailed",
            message,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_below_the_high_mark_and_then_down_to_the_low_one() {
        assert_eq!(excess(1000, 151), 0);
        assert_eq!(excess(1000, 150), 50);
        assert_eq!(excess(1000, 0), 200);
    }

    #[test]
    fn the_longest_unused_image_goes_first() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let image = |id: &str, pinned| Image {
            id: id.into(),
            size: 10,
            pinned,
            ..Image::default()
        };
        let images = [
            image("a", false),
            image("b", false),
            image("c", true),
            image("d", false),
            image("e", false),
        ];
        let entry = |first, used| Seen {
            first: at(first),
            used: at(used),
        };
        let seen: BTreeMap<String, Seen> = [
            ("a".into(), entry(0, 50)),
            ("b".into(), entry(0, 20)),
            ("c".into(), entry(0, 0)),
            ("d".into(), entry(0, 90)),
            ("e".into(), entry(950, 0)),
        ]
        .into();
        let used: BTreeSet<String> = ["d".to_string()].into();
        let ids = |bytes| -> Vec<&str> {
            choose(&images, &seen, &used, bytes, at(1000))
                .iter()
                .map(|i| i.id.as_str())
                .collect()
        };
        assert_eq!(ids(0), Vec::<&str>::new());
        assert_eq!(ids(5), ["b"]);
        assert_eq!(ids(1000), ["b", "a"]);
    }
}
