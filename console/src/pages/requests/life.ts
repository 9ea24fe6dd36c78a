import type { RequestTrace } from '$lib/api/types'

type Timeline = RequestTrace['timeline']

/** Something that happened to a request. Times are seconds since its reception. */
export type Happening =
  | { kind: 'queue'; at: number; length: number }
  | { kind: 'prefill'; at: number; length: number; tokens: number }
  | { kind: 'preempted'; at: number }
  | { kind: 'token'; at: number; candidate: number; number: number; gap: number | null }

/** All of it in order; of things at one time the first of its kind. */
export function lifeOf(timeline: Timeline, queueNs: number): Happening[] {
  const seconds = (ns: number): number => ns / 1e9
  const all: Happening[] = [{ kind: 'queue', at: 0, length: seconds(queueNs) }]
  for (const { start_ns, length_ns, tokens } of timeline.prefill) {
    all.push({ kind: 'prefill', at: seconds(start_ns), length: seconds(length_ns), tokens })
  }
  for (const at of timeline.preemptions_ns) all.push({ kind: 'preempted', at: seconds(at) })
  const last = new Map<number, { at: number; number: number }>()
  for (const { at_ns, candidate } of timeline.tokens) {
    const before = last.get(candidate)
    const token = { at: at_ns, number: (before?.number ?? 0) + 1 }
    last.set(candidate, token)
    all.push({ kind: 'token', at: seconds(at_ns), candidate, number: token.number, gap: before ? seconds(at_ns - before.at) : null })
  }
  return all.sort((a, b) => a.at - b.at)
}

/** Where the middle of something lies in time. */
function middle(one: Happening): number {
  return 'length' in one ? one.at + one.length / 2 : one.at
}

/** The number of what happened nearest to a time; what spans the time comes before what is beside it. */
export function nearest(all: readonly Happening[], at: number): number {
  let [best, least] = [0, Infinity]
  all.forEach((one, index) => {
    const spans = 'length' in one && one.at <= at && at <= one.at + one.length
    const distance = spans ? 0 : Math.min(Math.abs(middle(one) - at), Math.abs(one.at - at))
    if (distance < least) [best, least] = [index, distance]
  })
  return best
}
