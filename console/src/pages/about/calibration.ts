import type { CalibrationReport } from '$lib/api/types'

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
  'pass for up to 8 columns',
] as const

/** What an engine started from, told from the server's words; `null`: another text. */
export function startOf(note: string): { kind: 'calibrated' | 'notCalibrated' | 'unused'; detail: string; why: string } | null {
  const [, model] = /^not calibrated; `tokenworks calibrate (.+)` does that$/.exec(note) ?? []
  if (model !== undefined) return { kind: 'notCalibrated', detail: model, why: '' }
  const [, when] = /^calibrated (.+)$/.exec(note) ?? []
  if (when !== undefined) return { kind: 'calibrated', detail: when, why: '' }
  const [, why = '', again] = /^the calibration is not used: (.*); run `tokenworks calibrate (.+)` again$/.exec(note) ?? []
  return again === undefined ? null : { kind: 'unused', detail: again, why }
}

interface StepClass {
  name: string
  steps: number
  /** Seconds. */
  busy: number
  predicted: number
  /** Share of the measured time that the prediction is off by; `null` without steps. */
  error: number | null
}
interface Calibration {
  model: string
  startedFrom: string
  terms: { counts: string; seconds: number }[]
  classes: StepClass[]
}

/** Terms and classes that nothing was measured of are left out. */
export function calibrationsOf(report: Pick<CalibrationReport, 'data'>): Calibration[] {
  return report.data.map((line) => ({
    model: line.model,
    startedFrom: line.started_from,
    terms: line.terms.map(({ counts, ns }) => ({ counts, seconds: ns / 1e9 })).filter(({ seconds }) => seconds > 0),
    classes: line.classes.map(classOf).filter(({ steps }) => steps > 0),
  }))
}

function classOf(told: CalibrationReport['data'][number]['classes'][number]): StepClass {
  return {
    name: told.class,
    steps: told.steps,
    busy: told.busy_ns / 1e9,
    predicted: told.predicted_ns / 1e9,
    error: told.error_permille === null ? null : told.error_permille / 1000,
  }
}
