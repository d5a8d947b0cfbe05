//! What a manifest must fulfil, and where a sample's bytes lie in its pack.

use super::{FieldEncoding, Manifest, PACK_SAMPLES, SampleEntry};
use crate::digest::Digest;
use crate::evaluation::SampleIndex;
use std::collections::BTreeSet;
use std::ops::Range;

/// Fields a sample may have.
pub const MAX_FIELDS: usize = 64;

/// Bytes one field of one sample may take, as stored.
pub const MAX_FIELD_BYTES: u64 = 256 << 20;

/// Bytes a pack may take: it is held in memory as a whole.
pub const MAX_PACK_BYTES: u64 = 1 << 30;

/// A manifest contradicts itself or a limit.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The text is no manifest.
    #[error("read data set manifest")]
    Json(#[source] serde_json::Error),
    /// Something about the data set as a whole.
    #[error("data set `{dataset}`: {problem}")]
    Dataset {
        /// Its name.
        dataset: String,
        /// What is wrong and what was expected.
        problem: String,
    },
    /// Something about one sample.
    #[error("data set `{dataset}`, sample {index} (`{sample}`): {problem}")]
    Sample {
        /// Name of the data set.
        dataset: String,
        /// Position of the sample.
        index: usize,
        /// Name of the sample.
        sample: String,
        /// What is wrong and what was expected.
        problem: String,
    },
}

impl FieldEncoding {
    /// Bytes one sample's field takes, where the encoding fixes them; `None` for encoded files.
    ///
    /// A shape whose size exceeds the address space gives `u64::MAX`, which every limit refuses.
    pub fn fixed_bytes(&self) -> Option<u64> {
        match self {
            FieldEncoding::Image => None,
            FieldEncoding::Array { element, shape } => {
                let size = element.size() as u64;
                Some(shape.iter().try_fold(size, |bytes, &n| bytes.checked_mul(n as u64)).unwrap_or(u64::MAX))
            }
        }
    }
}

impl Manifest {
    /// Reads the JSON text of a manifest and validates it.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] for text that is no manifest and for whatever [`Manifest::validate`] refuses.
    pub fn from_json(text: &[u8]) -> Result<Manifest, ManifestError> {
        let manifest: Manifest = serde_json::from_slice(text).map_err(ManifestError::Json)?;
        manifest.validate()?;
        Ok(manifest)
    }

    /// The canonical JSON text: what is stored, sent and digested.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Json`] where serialization fails.
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        serde_json::to_vec(self).map_err(ManifestError::Json)
    }

    /// The digest of [`Manifest::to_json`], the data set's address. It covers every stored byte through the packs' digests.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Json`] where serialization fails.
    pub fn digest(&self) -> Result<Digest, ManifestError> {
        Ok(Digest::of(&self.to_json()?))
    }

    /// Checks that lengths, counts, bounds and annotations fit together. Whatever comes from outside is checked once.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] naming the first sample or property that does not.
    pub fn validate(&self) -> Result<(), ManifestError> {
        self.validate_fields()?;
        if self.samples.is_empty() {
            return Err(self.refuse("it has no samples".to_owned()));
        }
        if u32::try_from(self.samples.len()).is_err() {
            return Err(self.refuse(format!("it has {} samples; at most {} fit", self.samples.len(), u32::MAX)));
        }
        let kind = self.samples[0].annotation.kind();
        for (index, sample) in self.samples.iter().enumerate() {
            self.validate_sample(sample, kind).map_err(|problem| self.refuse_sample(index, problem))?;
        }
        let packs = self.samples.len().div_ceil(PACK_SAMPLES);
        if self.packs.len() != packs {
            let (samples, found) = (self.samples.len(), self.packs.len());
            return Err(self.refuse(format!("{samples} samples make {packs} packs, but it lists {found}")));
        }
        for (index, (pack, samples)) in self.packs.iter().zip(self.samples.chunks(PACK_SAMPLES)).enumerate() {
            let bytes = samples.iter().flat_map(|sample| &sample.field_bytes).sum::<u64>();
            if pack.bytes != bytes || bytes > MAX_PACK_BYTES {
                return Err(self.refuse(format!(
                    "pack {index} is said to hold {} bytes, its samples sum to {bytes}, {MAX_PACK_BYTES} are allowed",
                    pack.bytes
                )));
            }
        }
        Ok(())
    }

    fn validate_fields(&self) -> Result<(), ManifestError> {
        if self.fields.is_empty() || self.fields.len() > MAX_FIELDS {
            let found = self.fields.len();
            return Err(self.refuse(format!("it has {found} fields a sample; 1 to {MAX_FIELDS} are possible")));
        }
        let mut names = BTreeSet::new();
        for field in &self.fields {
            if !names.insert(&field.name) {
                return Err(self.refuse(format!("two fields are named `{}`", field.name)));
            }
            if let Some(bytes) = field.encoding.fixed_bytes()
                && (bytes == 0 || bytes > MAX_FIELD_BYTES)
            {
                return Err(self.refuse(format!(
                    "field `{}` takes {bytes} bytes a sample; 1 to {MAX_FIELD_BYTES} are possible",
                    field.name
                )));
            }
        }
        Ok(())
    }

    fn validate_sample(&self, sample: &SampleEntry, kind: &str) -> Result<(), String> {
        if sample.field_bytes.len() != self.fields.len() {
            let (found, expected) = (sample.field_bytes.len(), self.fields.len());
            return Err(format!("it has {found} fields, the data set has {expected}"));
        }
        for (field, &bytes) in self.fields.iter().zip(&sample.field_bytes) {
            match field.encoding.fixed_bytes() {
                Some(expected) if bytes != expected => {
                    return Err(format!("field `{}` has {bytes} bytes, its shape takes {expected}", field.name));
                }
                Some(_) => {}
                None if bytes == 0 => return Err(format!("field `{}` is empty", field.name)),
                None if bytes > MAX_FIELD_BYTES => {
                    return Err(format!("field `{}` has {bytes} bytes, {MAX_FIELD_BYTES} are allowed", field.name));
                }
                None => {}
            }
        }
        if sample.annotation.kind() != kind {
            return Err(format!("it carries {}, the first sample carries {kind}", sample.annotation.kind()));
        }
        sample.annotation.validate(self.classes.len())
    }

    /// The pack a sample lies in; `None` for a sample the data set does not have.
    pub fn pack_of(&self, sample: SampleIndex) -> Option<usize> {
        let index = sample.0 as usize;
        (index < self.samples.len()).then_some(index / PACK_SAMPLES)
    }

    /// Positions of the samples of a pack; empty for a pack there is not.
    pub fn samples_of(&self, pack: usize) -> Range<usize> {
        let count = self.samples.len();
        let start = pack.saturating_mul(PACK_SAMPLES).min(count);
        start..start.saturating_add(PACK_SAMPLES).min(count)
    }

    /// Where the fields of a sample lie inside its pack, in field order; `None` for a sample the data set does not have.
    pub fn field_ranges(&self, sample: SampleIndex) -> Option<Vec<Range<usize>>> {
        let index = sample.0 as usize;
        let entry = self.samples.get(index)?;
        let before = &self.samples[index / PACK_SAMPLES * PACK_SAMPLES..index];
        let mut start = before.iter().flat_map(|entry| &entry.field_bytes).map(|&bytes| bytes as usize).sum::<usize>();
        let mut ranges = Vec::with_capacity(entry.field_bytes.len());
        for &bytes in &entry.field_bytes {
            ranges.push(start..start + bytes as usize);
            start += bytes as usize;
        }
        Some(ranges)
    }

    fn refuse(&self, problem: String) -> ManifestError {
        ManifestError::Dataset { dataset: self.name.clone(), problem }
    }

    fn refuse_sample(&self, index: usize, problem: String) -> ManifestError {
        let sample = self.samples.get(index).map(|sample| sample.name.clone()).unwrap_or_default();
        ManifestError::Sample { dataset: self.name.clone(), index, sample, problem }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{Annotation, ElementType, Field, Pack};

    fn manifest(samples: usize) -> Manifest {
        let pixels = FieldEncoding::Array { element: ElementType::F32, shape: vec![2, 3] };
        let samples: Vec<SampleEntry> = (0..samples)
            .map(|index| SampleEntry {
                name: format!("{index}.png"),
                field_bytes: vec![10 + index as u64, 24],
                annotation: Annotation::Label(index as u32 % 3),
            })
            .collect();
        let pack = |samples: &[SampleEntry]| {
            let bytes = samples.iter().flat_map(|sample| &sample.field_bytes).sum();
            Pack { digest: Digest::of(samples[0].name.as_bytes()), bytes }
        };
        Manifest {
            name: "digits".to_owned(),
            fields: vec![
                Field { name: "image".to_owned(), encoding: FieldEncoding::Image },
                Field { name: "mask".to_owned(), encoding: pixels },
            ],
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            packs: samples.chunks(PACK_SAMPLES).map(pack).collect(),
            samples,
        }
    }

    #[test]
    fn fields_of_a_pack_stand_one_after_another_without_gaps() {
        let manifest = manifest(130);
        manifest.validate().expect("a sound manifest");
        let mut pack = 0;
        let mut end = 0;
        for index in 0..130 {
            let sample = SampleIndex(index);
            if manifest.pack_of(sample) != Some(pack) {
                assert_eq!(end as u64, manifest.packs[pack].bytes);
                (pack, end) = (pack + 1, 0);
            }
            assert!(manifest.samples_of(pack).contains(&(index as usize)));
            for range in manifest.field_ranges(sample).expect("the sample exists") {
                assert_eq!(range.start, end);
                end = range.end;
            }
        }
        assert_eq!((pack, end as u64), (2, manifest.packs[2].bytes));
        assert_eq!(manifest.samples_of(2), 128..130);
        assert!(manifest.samples_of(usize::MAX).is_empty());
        assert!(manifest.pack_of(SampleIndex(130)).is_none() && manifest.field_ranges(SampleIndex(130)).is_none());
    }

    #[test]
    fn a_manifest_survives_its_text_and_keeps_its_digest() {
        let manifest = manifest(3);
        let text = manifest.to_json().expect("serializable");
        let read = Manifest::from_json(&text).expect("readable");
        assert_eq!(read, manifest);
        assert_eq!(read.digest().expect("serializable"), Digest::of(&text));
    }

    #[test]
    fn whatever_does_not_fit_together_is_refused_by_name() {
        type Break = fn(&mut Manifest);
        let cases: [(&str, Break); 12] = [
            ("no samples", |m| m.samples.clear()),
            ("1 to 64 are possible", |m| m.fields.clear()),
            ("two fields are named `image`", |m| m.fields[1].name = "image".to_owned()),
            ("has 1 fields", |m| m.samples[1].field_bytes.truncate(1)),
            ("its shape takes 24", |m| m.samples[1].field_bytes[1] = 25),
            ("`image` is empty", |m| m.samples[1].field_bytes[0] = 0),
            ("sample 1 (`1.png`): field `image` has", |m| m.samples[1].field_bytes[0] = u64::MAX),
            ("its label is 3, but there are 3 classes", |m| m.samples[2].annotation = Annotation::Label(3)),
            ("it carries no annotation", |m| m.samples[2].annotation = Annotation::None),
            ("make 1 packs, but it lists 0", |m| m.packs.clear()),
            ("pack 0 is said to hold 7 bytes", |m| m.packs[0].bytes = 7),
            ("takes 18446744073709551615 bytes", |m| {
                let shape = vec![usize::MAX, 2];
                m.fields[1].encoding = FieldEncoding::Array { element: ElementType::U8, shape };
            }),
        ];
        for (expected, damage) in cases {
            let mut manifest = manifest(3);
            damage(&mut manifest);
            let refusal = manifest.validate().expect_err(expected).to_string();
            assert!(refusal.contains(expected), "{refusal}");
        }
    }
}
