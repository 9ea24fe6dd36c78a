import type { Snapshot } from './types'

/** For how long snapshots are kept for the curves. */
export const KEPT_MS = 300_000

/** Adds a snapshot to a history; what is older than five minutes is forgotten. */
export function remember(history: readonly Snapshot[], snapshot: Snapshot): Snapshot[] {
  const last = history.at(-1)
  if (last && snapshot.time_ms <= last.time_ms) return [...history]
  return [...history, snapshot].filter(({ time_ms }) => time_ms > snapshot.time_ms - KEPT_MS)
}

/** How long to wait before the n-th attempt to connect again (from 0), in milliseconds. */
export function backoff(attempt: number): number {
  return Math.min(1000 * 2 ** attempt, 15_000)
}
