//! The loader: the same bytes on any number of threads, errors in their place, threads that end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use selfpatch_datasets::{
    Batch, Content, Crops, Decoding, Error, Image, ImageSource, Loader, LoaderConfig, MultiCrop, Picture,
    ProceduralImages, Purpose, Samples, stream,
};

fn loader(seed: u64, threads: usize) -> Loader {
    with(Arc::new(ProceduralImages::new(1, 26, 64)), LoaderConfig { threads, ..LoaderConfig::new(4, seed) }).unwrap()
}

fn with(source: Arc<dyn ImageSource>, config: LoaderConfig) -> Result<Loader, Error> {
    Loader::new(source, MultiCrop::procedural(), Decoding::default(), config)
}

fn bytes(samples: &Samples) -> &[u8] {
    match samples {
        Samples::Bytes(v) => v,
        Samples::Floats(_) => panic!("floats"),
    }
}

fn all(loader: &Loader, epoch: u64, first: usize) -> Vec<Batch<Crops>> {
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
    assert_eq!((batch.images(), batch.ids.len()), (4, 4));
    assert_eq!((batch.views.globals.len(), batch.views.locals.len()), (2 * 4 * global, 4 * 4 * local));
    let mut views: Vec<_> = bytes(&batch.views.globals)
        .chunks_exact(global)
        .chain(bytes(&batch.views.locals).chunks_exact(local))
        .collect();
    let count = views.len();
    views.sort();
    views.dedup();
    assert_eq!(views.len(), count);
    // The first sample's views come from its own image: slot 0 of every view.
    let Content::Image(image) = ProceduralImages::new(1, 26, 64).read(batch.ids[0]).unwrap() else { panic!() };
    let picture = Picture::of(&image).unwrap();
    let mut rng = stream(0, Purpose::Crop, 0, batch.ids[0] as u64);
    rng.set_stream(3);
    let view = picture.view(&MultiCrop::procedural().draw(picture.shape(), 3, &mut rng));
    assert_eq!(bytes(&view), &bytes(&batch.views.locals)[4 * local..5 * local]); // local view 1, slot 0
}

#[test]
fn no_local_views_make_no_local_bytes() {
    let crops = MultiCrop { local_count: 0, ..MultiCrop::procedural() };
    let source = Arc::new(ProceduralImages::new(1, 2, 48));
    let loader = Loader::new(source, crops, Decoding::default(), LoaderConfig::new(2, 0)).unwrap();
    assert!(all(&loader, 0, 0)[0].views.locals.is_empty());
}

#[test]
fn impossible_settings_are_refused() {
    let new = |config: LoaderConfig| {
        with(Arc::new(ProceduralImages::new(1, 10, 48)), config).map(|_| ()).unwrap_err().to_string()
    };
    let ten = LoaderConfig::new(10, 0);
    assert!(new(LoaderConfig::new(0, 0)).contains("at least 1"));
    assert!(new(LoaderConfig::new(11, 0)).contains("the data has 10 images but a batch needs 11"));
    assert!(new(LoaderConfig { world: 2, ..ten }).contains("a batch needs 20"));
    assert!(new(LoaderConfig { rank: 1, ..ten }).contains("rank"));
    assert!(new(LoaderConfig { max_bad: 1.5, ..ten }).contains("max_bad"));
    assert!(new(LoaderConfig { world: 2, batch: 2, drop_last: false, ..ten }).contains("drop_last"));
}

#[test]
fn ranks_share_the_batches_of_one_process() {
    let source = || Arc::new(ProceduralImages::new(1, 26, 64));
    let whole = all(&with(source(), LoaderConfig::new(6, 3)).unwrap(), 1, 0);
    let ranks: Vec<Vec<Batch<Crops>>> = (0..3)
        .map(|rank| all(&with(source(), LoaderConfig { rank, world: 3, ..LoaderConfig::new(2, 3) }).unwrap(), 1, 0))
        .collect();
    assert_eq!(whole.len(), 4);
    for (step, batch) in whole.iter().enumerate() {
        let ids: Vec<usize> = ranks.iter().flat_map(|r| r[step].ids.clone()).collect();
        assert_eq!(ids, batch.ids);
        // The same crops: view 0 of the third image of the batch is the first of rank 1.
        let global = 3 * 48 * 48;
        assert_eq!(bytes(&ranks[1][step].views.globals)[..global], bytes(&batch.views.globals)[2 * global..3 * global]);
    }
}

#[test]
fn without_drop_last_the_rest_makes_a_smaller_batch() {
    let config = LoaderConfig { drop_last: false, ..LoaderConfig::new(4, 3) };
    let loader = with(Arc::new(ProceduralImages::new(1, 26, 64)), config).unwrap();
    let batches = all(&loader, 0, 0);
    assert_eq!((loader.steps_per_epoch(), batches.len(), batches[6].images()), (7, 7, 2));
    assert_eq!(batches[6].views.globals.len(), 2 * 2 * 3 * 48 * 48);
    let mut ids: Vec<usize> = batches.into_iter().flat_map(|b| b.ids).collect();
    ids.sort();
    assert_eq!(ids, (0..26).collect::<Vec<_>>());
}

/// Some images fail, one panics, one has too few bytes; counts what it reads.
struct Broken(AtomicUsize);

impl ImageSource for Broken {
    fn len(&self) -> usize {
        40
    }
    fn name(&self, index: usize) -> String {
        format!("broken-{index}")
    }
    fn read(&self, index: usize) -> Result<Content, Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let image = |samples| Content::Image(Image { width: 2, height: 2, channels: 3, samples });
        match index {
            7 => Ok(Content::File(b"planted".to_vec())),
            11 => panic!("planted panic"),
            13 => Ok(image(Samples::Bytes(vec![0; 3]))),
            _ => Ok(image(Samples::Bytes(vec![index as u8; 12]))),
        }
    }
}

#[test]
fn bad_samples_are_named_and_replaced_the_same_way_by_any_number_of_threads() {
    let mut runs = Vec::new();
    for threads in [1, 4] {
        let source = Arc::new(Broken(AtomicUsize::new(0)));
        let config = LoaderConfig { threads, max_bad: 0.1, ..LoaderConfig::new(2, 5) };
        let loader = with(source, config).unwrap();
        let order = loader.epoch_order(0);
        let batches = all(&loader, 0, 0);
        assert_eq!(batches.len(), 20);
        let mut seen = 0;
        for (ids, batch) in order.chunks_exact(2).zip(&batches) {
            for (slot, id) in ids.iter().enumerate() {
                if [7, 11, 13].contains(id) {
                    let name = format!("broken-{id}");
                    let skipped = batch.faults.iter().find(|s| s.name == name).unwrap();
                    assert!(skipped.first && skipped.bad);
                    seen += 1;
                    let reason = match id {
                        7 => "not a JPEG, PNG, WebP, BMP or TIFF file",
                        11 => "it panicked: planted panic",
                        _ => "2 x 2 pixels but 3 values",
                    };
                    assert_eq!(skipped.reason, reason);
                    assert!(!ids.contains(&batch.ids[slot]) && ![7, 11, 13].contains(&batch.ids[slot]));
                } else {
                    assert_eq!(batch.ids[slot], *id);
                }
            }
        }
        assert_eq!((seen, loader.bad().len()), (3, 3));
        // Met again in the next epoch, but not for the first time.
        let again = all(&loader, 1, 0);
        assert_eq!(again.iter().flat_map(|b| &b.faults).filter(|s| s.first).count(), 0);
        runs.push((batches, again));
    }
    assert!(runs[0] == runs[1]);
}

#[test]
fn too_many_bad_samples_end_the_epoch_with_their_list() {
    let config = LoaderConfig { max_bad: 0.05, ..LoaderConfig::new(2, 5) }; // two of 40
    let loader = with(Arc::new(Broken(AtomicUsize::new(0))), config).unwrap();
    let results: Vec<_> = loader.epoch(0, 0).collect();
    let error = results.last().unwrap().as_ref().unwrap_err().to_string();
    assert!(error.starts_with("3 of 40 images cannot be used, more than 5.000 % of them (--max-bad)"), "{error}");
    assert!(["broken-7: not a JPEG", "broken-11: it panicked", "broken-13: 2 x 2"].iter().all(|s| error.contains(s)));
    assert_eq!(results.iter().filter(|r| r.is_err()).count(), 1);
    assert!(results.len() < 20);
}

/// Nothing but faults.
struct Hopeless;

impl ImageSource for Hopeless {
    fn len(&self) -> usize {
        500
    }
    fn name(&self, index: usize) -> String {
        format!("hopeless-{index}")
    }
    fn read(&self, _: usize) -> Result<Content, Error> {
        Ok(Content::File(Vec::new()))
    }
}

#[test]
fn data_without_one_good_image_ends() {
    for max_bad in [0.01, 1.0] {
        let loader = with(Arc::new(Hopeless), LoaderConfig { max_bad, ..LoaderConfig::new(2, 0) }).unwrap();
        assert!(loader.epoch(0, 0).next().unwrap().is_err(), "{max_bad}");
    }
}

#[test]
fn waiting_is_counted() {
    let mut epoch = loader(0, 1).epoch(0, 0);
    assert!(epoch.waited().is_zero());
    epoch.next().unwrap().unwrap();
    assert!(!epoch.waited().is_zero());
}

#[test]
fn dropping_an_epoch_stops_its_threads() {
    let source = Arc::new(Broken(AtomicUsize::new(0)));
    let config = LoaderConfig { threads: 3, max_bad: 0.1, ..LoaderConfig::new(2, 6) };
    let loader = with(source.clone(), config).unwrap();
    let mut epoch = loader.epoch(0, 0);
    assert!(epoch.next().is_some());
    drop(epoch);
    let loaded = source.0.load(Ordering::SeqCst);
    // The batch that was taken and at most two more, and a replacement for each bad sample.
    assert!((2..=9).contains(&loaded), "{loaded}");
    drop(loader);
    // No thread holds the source any more.
    assert_eq!(Arc::strong_count(&source), 1);
}

#[test]
fn wrong_extensions_are_named_but_used() {
    struct Named;
    impl ImageSource for Named {
        fn len(&self) -> usize {
            2
        }
        fn name(&self, index: usize) -> String {
            ["right.png", "wrong.jpg"][index].into()
        }
        fn read(&self, _: usize) -> Result<Content, Error> {
            let mut out = std::io::Cursor::new(Vec::new());
            image::RgbImage::new(9, 9).write_to(&mut out, image::ImageFormat::Png).unwrap();
            Ok(Content::File(out.into_inner()))
        }
    }
    let loader = with(Arc::new(Named), LoaderConfig { max_bad: 0., ..LoaderConfig::new(2, 0) }).unwrap();
    let batch = &all(&loader, 0, 0)[0];
    let fault = &batch.faults[..];
    assert!(matches!(fault, [f] if f.name == "wrong.jpg" && f.reason == "is named as a JPEG but is a PNG" && !f.bad));
    assert!(loader.bad().is_empty());
}
