/** Round numbers, at most `most` steps, that reach from at or below `low` to at or above `high`. */
export function ticks(low: number, high: number, most = 4): number[] {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return [0, 1]
  const span = high > low ? high - low : Math.abs(high) || 1
  const rough = span / most
  const size = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].map((one) => one * size).find((one) => one >= rough * (1 - 1e-9)) ?? 10 * size
  const [first, last] = [Math.floor(low / step + 1e-9), Math.ceil(high / step - 1e-9)]
  const count = Math.max(1, last - first)
  return Array.from({ length: count + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)))
}

/** The least and the greatest of what is there; 0 is among them. */
export function extent(values: readonly (number | null | undefined)[]): [number, number] {
  const there = values.filter((value): value is number => typeof value === 'number' && Number.isFinite(value))
  return [Math.min(0, ...there), Math.max(0, ...there)]
}

/** Where `value` lies between `low` and `high`: 0 to 1, and no further. */
export function share(value: number, low: number, high: number): number {
  if (!(high > low)) return 0
  return Math.min(1, Math.max(0, (value - low) / (high - low)))
}
