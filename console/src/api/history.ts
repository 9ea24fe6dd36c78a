import type { Snapshot } from './types'

/** Snapshots kept for the curves: five minutes. */
export const KEPT = 300

/** Adds a snapshot to a history; what came before a gap in the server's life is forgotten. */
export function remember(history: readonly Snapshot[], snapshot: Snapshot): Snapshot[] {
  const last = history.at(-1)
  if (last && snapshot.time_ms <= last.time_ms) return [...history]
  return [...history, snapshot].slice(-KEPT)
}

/** How long to wait before the n-th attempt to connect again (from 0), in milliseconds. */
export function backoff(attempt: number): number {
  return Math.min(1000 * 2 ** attempt, 15_000)
}
