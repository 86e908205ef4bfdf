//! The loader: the same bytes on any number of threads, errors in their place, threads that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use selfpatch_datasets::{Batch, Error, ImageSource, Loader, MultiCrop, ProceduralImages, Rgb};

fn loader(seed: u64, threads: usize) -> Loader {
    let images = Arc::new(ProceduralImages::new(1, 26, 64));
    Loader::new(images, MultiCrop::procedural(), 4, seed, threads).unwrap()
}

fn all(loader: &Loader, epoch: u64, first: usize) -> Vec<Batch> {
    loader.epoch(epoch, first).map(Result::unwrap).collect()
}

#[test]
fn batches_depend_on_seed_epoch_and_step_alone() {
    let one = all(&loader(9, 1), 2, 0);
    assert_eq!(one.len(), 6); // 26 images: the last two wait
    assert_eq!(one, all(&loader(9, 3), 2, 0));
    assert_eq!(one[4..], all(&loader(9, 3), 2, 4));
    assert!(all(&loader(9, 2), 2, 6).is_empty());
    assert!(all(&loader(9, 2), 2, 7).is_empty());
    assert_ne!(one, all(&loader(9, 1), 3, 0));
    assert_ne!(one, all(&loader(8, 1), 2, 0));
}

#[test]
fn an_epoch_shows_every_image_once_at_most() {
    let loader = loader(0, 2);
    let mut ids: Vec<_> = all(&loader, 0, 0).into_iter().flat_map(|b| b.ids).collect();
    assert_eq!(ids, loader.epoch_order(0)[..24]);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 24);
    assert_ne!(loader.epoch_order(0), loader.epoch_order(1));
    assert_eq!(loader.steps_per_epoch(), 6);
}

#[test]
fn batches_are_view_major_and_views_differ() {
    let batch = &all(&loader(0, 2), 0, 5)[0];
    let (global, local) = (3 * 48 * 48, 3 * 24 * 24);
    assert_eq!((batch.batch, batch.ids.len()), (4, 4));
    assert_eq!((batch.globals.len(), batch.locals.len()), (2 * 4 * global, 4 * 4 * local));
    let mut views: Vec<_> = batch.globals.chunks_exact(global).chain(batch.locals.chunks_exact(local)).collect();
    let count = views.len();
    views.sort();
    views.dedup();
    assert_eq!(views.len(), count);
    // The first sample's views come from its own image: slot 0 of every view.
    let images = ProceduralImages::new(1, 26, 64);
    let image = images.load(batch.ids[0]).unwrap();
    let mut rng = selfpatch_datasets::stream(0, selfpatch_datasets::Purpose::Crop, 0, batch.ids[0] as u64);
    rng.set_stream(3);
    let view = MultiCrop::procedural().crop(&image, 3, &mut rng);
    assert_eq!(view, batch.locals[4 * local..5 * local]); // local view 1, slot 0
}

#[test]
fn no_local_views_make_no_local_bytes() {
    let crops = MultiCrop { local_count: 0, ..MultiCrop::procedural() };
    let loader = Loader::new(Arc::new(ProceduralImages::new(1, 2, 48)), crops, 2, 0, 0).unwrap();
    assert!(all(&loader, 0, 0)[0].locals.is_empty());
}

#[test]
fn impossible_batches_are_refused() {
    let new = |batch| {
        let images = Arc::new(ProceduralImages::new(1, 10, 48));
        Loader::new(images, MultiCrop::procedural(), batch, 0, 1).map(|_| ()).unwrap_err().to_string()
    };
    assert!(new(0).contains("at least 1"));
    assert!(new(11).contains("the data has 10 images but a batch needs 11"));
}

/// Some images fail, one panics, one has too few bytes; counts what it loads.
struct Broken(AtomicUsize);

impl ImageSource for Broken {
    fn len(&self) -> usize {
        40
    }
    fn name(&self, index: usize) -> String {
        format!("broken-{index}")
    }
    fn load(&self, index: usize) -> Result<Rgb, Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match index {
            7 => Err(Error::Decode { path: "seven.jpg".into(), reason: "planted".into() }),
            11 => panic!("planted panic"),
            13 => Ok(Rgb { width: 2, height: 2, pixels: vec![0; 3] }),
            _ => Ok(Rgb { width: 2, height: 2, pixels: vec![index as u8; 12] }),
        }
    }
}

#[test]
fn errors_come_in_their_place_and_the_rest_follows() {
    let mut runs = Vec::new();
    for threads in [1, 4] {
        let source = Arc::new(Broken(AtomicUsize::new(0)));
        let loader = Loader::new(source, MultiCrop::procedural(), 2, 5, threads).unwrap();
        let order = loader.epoch_order(0);
        let results: Vec<_> = loader.epoch(0, 0).collect();
        assert_eq!(results.len(), 20);
        for (ids, result) in order.chunks_exact(2).zip(&results) {
            let bad = ids.iter().find(|id| [7, 11, 13].contains(id));
            match (bad, result) {
                (None, Ok(batch)) => assert_eq!(batch.ids, ids),
                (Some(7), Err(e)) => assert!(e.to_string().contains("seven.jpg")),
                (Some(11), Err(e)) => assert!(e.to_string().contains("planted panic")),
                (Some(13), Err(e)) => assert!(e.to_string().contains("broken-13")),
                other => panic!("{other:?}"),
            }
        }
        runs.push(results.iter().map(|r| r.as_ref().map_err(ToString::to_string).cloned()).collect::<Vec<_>>());
    }
    assert_eq!(runs[0], runs[1]);
}

#[test]
fn dropping_an_epoch_stops_its_threads() {
    let source = Arc::new(Broken(AtomicUsize::new(0)));
    let loader = Loader::new(source.clone(), MultiCrop::procedural(), 2, 6, 3).unwrap();
    let mut epoch = loader.epoch(0, 0);
    assert!(epoch.next().is_some());
    drop(epoch);
    let loaded = source.0.load(Ordering::SeqCst);
    // The batch that was taken and at most two more.
    assert!((2..=6).contains(&loaded), "{loaded}");
    drop(loader);
    // No thread holds the source any more.
    assert_eq!(Arc::strong_count(&source), 1);
}
