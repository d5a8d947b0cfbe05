//! Logarithms of class probabilities, by portable code: what log loss and perplexity share.

/// −ln of the share that a softmax over logits gives one class.
pub(super) fn negative_log_softmax(logits: &[f32], class: usize) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit) - largest)).sum();
    libm::log(sum) - (f64::from(logits[class]) - largest)
}

/// Shares of the classes by a softmax over logits.
pub(super) fn softmax(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let shares: Vec<f64> = logits.iter().map(|&logit| libm::exp(f64::from(logit) - largest)).collect();
    let sum: f64 = shares.iter().sum();
    shares.into_iter().map(|share| share / sum).collect()
}
