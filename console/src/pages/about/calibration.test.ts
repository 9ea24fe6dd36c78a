import { expect, it } from 'vitest'
import { calibrationsOf, startOf } from './calibration'

it('reads what was measured, and leaves out what was not', () => {
  const document = {
    data: [
      {
        model: 'm',
        started_from: 'not calibrated',
        terms: [{ counts: 'step', ns: 2_831_069.65 }, { counts: 'column up to 4', ns: 0 }],
        classes: [
          { class: 'prefill', steps: 1, busy_ns: 7_000_000, predicted_ns: 9_000_000, error_permille: 352 },
          { class: 'mixed', steps: 0, busy_ns: 0, predicted_ns: 0, error_permille: null },
        ],
      },
    ],
  }
  expect(calibrationsOf(document)).toEqual([
    {
      model: 'm',
      startedFrom: 'not calibrated',
      terms: [{ counts: 'step', seconds: 0.00283106965 }],
      classes: [{ name: 'prefill', steps: 1, busy: 0.007, predicted: 0.009, error: 0.352 }],
    },
  ])
  expect(calibrationsOf({ data: [] })).toEqual([])
})

it('tells what an engine started from', () => {
  expect(startOf('not calibrated; `tokenworks calibrate a-b` does that')).toEqual({ kind: 'notCalibrated', detail: 'a-b', why: '' })
  expect(startOf('calibrated 2026-11-28T00:00:00Z')).toEqual({ kind: 'calibrated', detail: '2026-11-28T00:00:00Z', why: '' })
  expect(startOf('the calibration is not used: threads differ; run `tokenworks calibrate a` again')).toEqual({ kind: 'unused', detail: 'a', why: 'threads differ' })
  expect(startOf('something else')).toBeNull()
})
