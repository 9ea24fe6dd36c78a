import { Doc } from '$lib/api/doc'

export const CLASSES = ['prefill', 'prefill_long', 'decode_alone', 'decode_few', 'decode_many', 'decode_long', 'guessed', 'mixed'] as const
/** What the times of a step are told for. */
export const TERMS = [
  'step',
  'column',
  'row of logits',
  'position that a column looks back on',
  'column up to 4',
  'column up to 16',
  'column up to 64',
  'column beyond 4',
  'column beyond 16',
  'first row of logits',
  'position that a sequence reads',
] as const

interface StepClass {
  name: string
  steps: number
  /** Seconds. */
  busy: number
  predicted: number
  /** Share of the measured time that the prediction is off by; `null` without steps. */
  error: number | null
}
export interface Calibration {
  model: string
  startedFrom: string
  terms: { counts: string; seconds: number }[]
  classes: StepClass[]
}

/** The answer of `GET /admin/v1/calibration`: terms and classes that nothing was measured of are left out. */
export function calibrationsOf(document: unknown): Calibration[] {
  return new Doc(document).list('data').map((line) => ({
    model: line.text('model') ?? '',
    startedFrom: line.text('started_from') ?? '',
    terms: line.list('terms').map((term) => ({ counts: term.text('counts') ?? '', seconds: (term.number('ns') ?? 0) / 1e9 })).filter(({ seconds }) => seconds > 0),
    classes: line.list('classes').map(classOf).filter(({ steps }) => steps > 0),
  }))
}

function classOf(doc: Doc): StepClass {
  const permille = doc.number('error_permille')
  return {
    name: doc.text('class') ?? '',
    steps: doc.number('steps') ?? 0,
    busy: (doc.number('busy_ns') ?? 0) / 1e9,
    predicted: (doc.number('predicted_ns') ?? 0) / 1e9,
    error: permille === null ? null : permille / 1000,
  }
}
