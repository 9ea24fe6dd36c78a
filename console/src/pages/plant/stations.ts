import type { Snapshot } from '$lib/api/types'
import type { IconName } from '$lib/components/icons'
import { decimal, duration, integer, percent } from '$lib/format'
import { t } from './texts'

interface Figure {
  label: string
  value: string
  /** Where it stands in the snapshot. */
  name: string
}

export interface Station {
  key: 'tokenize' | 'context' | 'decode' | 'sample' | 'deliver'
  icon: IconName
  title: string
  main: Figure
  rows: Figure[]
  /** How full it is, 0 to 1. */
  load: number
  /** Whether something moves through it. */
  isActive: boolean
}

/** The stations of the line with what each shows. */
export function stationsOf(snapshot: Snapshot): Station[] {
  const { tokenize, context, decode, sample, deliver, plant, itl, e2e } = snapshot
  const part = (used: number, all: number): number => (all > 0 ? Math.min(used / all, 1) : 0)
  return [
    {
      key: 'tokenize',
      icon: 'tokenize',
      title: t('tokenize'),
      main: { label: t('openRequests'), value: integer(tokenize.open_requests), name: 'tokenize.open_requests' },
      rows: [
        { label: t('requestsRate'), value: decimal(tokenize.requests_per_second), name: 'tokenize.requests_per_second' },
        { label: t('rejectedRate'), value: decimal(tokenize.rejected_per_second), name: 'tokenize.rejected_per_second' },
        { label: t('places'), value: integer(tokenize.max_requests), name: 'tokenize.max_requests' },
      ],
      load: part(tokenize.open_requests, tokenize.max_requests),
      isActive: tokenize.open_requests > 0,
    },
    {
      key: 'context',
      icon: 'context',
      title: t('context'),
      main: { label: t('inputRate'), value: decimal(context.input_tokens_per_second), name: 'context.input_tokens_per_second' },
      rows: [
        { label: t('waiting'), value: integer(context.waiting), name: 'context.waiting' },
        { label: t('cachedRate'), value: decimal(context.cached_tokens_per_second), name: 'context.cached_tokens_per_second' },
        {
          label: t('kvBlocks'),
          value: `${integer(context.kv_blocks_used)} / ${integer(context.kv_blocks_total)}`,
          name: 'context.kv_blocks_used/context.kv_blocks_total',
        },
        { label: t('shared'), value: integer(context.kv_blocks_cached), name: 'context.kv_blocks_cached' },
      ],
      load: part(context.kv_blocks_used, context.kv_blocks_total),
      isActive: (context.input_tokens_per_second ?? 0) > 0,
    },
    {
      key: 'decode',
      icon: 'decode',
      title: t('decode'),
      main: { label: t('running'), value: integer(decode.running), name: 'decode.running' },
      rows: [
        { label: t('batch'), value: decimal(decode.batch_columns), name: 'decode.batch_columns' },
        { label: t('steps'), value: decimal(decode.steps_per_second), name: 'decode.steps_per_second' },
        { label: t('busy'), value: percent(plant.utilisation), name: 'plant.utilisation' },
        { label: t('preempted'), value: decimal(decode.preemptions_per_second), name: 'decode.preemptions_per_second' },
      ],
      load: plant.utilisation ?? 0,
      isActive: decode.running > 0,
    },
    {
      key: 'sample',
      icon: 'sample',
      title: t('sample'),
      main: { label: t('outputRate'), value: decimal(sample.output_tokens_per_second), name: 'sample.output_tokens_per_second' },
      rows: [
        { label: t('guesses'), value: percent(sample.guesses_right), name: 'sample.guesses_right' },
        { label: t('gapHalf'), value: duration(itl.p50_seconds), name: 'itl.p50_seconds' },
        { label: t('gapMost'), value: duration(itl.p95_seconds), name: 'itl.p95_seconds' },
      ],
      load: sample.guesses_right ?? 0,
      isActive: (sample.output_tokens_per_second ?? 0) > 0,
    },
    {
      key: 'deliver',
      icon: 'deliver',
      title: t('deliver'),
      main: { label: t('finishedRate'), value: decimal(deliver.finished_per_second), name: 'deliver.finished_per_second' },
      rows: [
        { label: t('ok'), value: integer(deliver.ok), name: 'deliver.ok' },
        { label: t('cancelled'), value: integer(deliver.cancelled), name: 'deliver.cancelled' },
        { label: t('failed'), value: integer(deliver.failed), name: 'deliver.failed' },
        { label: t('wholeHalf'), value: duration(e2e.p50_seconds), name: 'e2e.p50_seconds' },
      ],
      load: part(deliver.ok, deliver.ok + deliver.cancelled + deliver.failed),
      isActive: (deliver.finished_per_second ?? 0) > 0,
    },
  ]
}
