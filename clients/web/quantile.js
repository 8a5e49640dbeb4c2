/** Return the `q` quantile of sorted values, interpolated. */
export function quantile(sorted, q) {
  const i = q * (sorted.length - 1), low = Math.floor(i);
  return sorted[low] + (i - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}
