import type uPlot from 'uplot'

/** Number of the theme's colour for curves. */
export type Colour = 1 | 2 | 3 | 4

export interface Series {
  label: string
  values: readonly (number | null | undefined)[]
  colour: Colour
  /** What stands beside its name; the last value when not given. */
  shown?: string
}

interface Look {
  series: readonly Series[]
  format: (value: number | null | undefined) => string
  height: number
  tag: string
}

/** Longest time of which seconds are told, and of which the time of day is, in seconds. */
const OF_SECONDS = 1200
const OF_A_DAY = 2 * 86_400

/** How instants of so long a time are written at an axis: as many words as tell them apart. */
export function instants(seconds: number, tag: string): Intl.DateTimeFormat {
  if (seconds <= OF_SECONDS) return new Intl.DateTimeFormat(tag, { timeStyle: 'medium' })
  if (seconds <= OF_A_DAY) return new Intl.DateTimeFormat(tag, { timeStyle: 'short' })
  return new Intl.DateTimeFormat(tag, { month: 'short', day: 'numeric' })
}

/** Seconds that a curve of one sample is drawn over: of itself it has no length, and uPlot would take a thousand days. */
const OF_ONE = 60

/** From where to where curves are drawn, of samples in ascending order; nothing where there are none. */
export function rangeOf(times: ArrayLike<number>): [number, number] | [null, null] {
  const [first, last] = [times[0], times[times.length - 1]]
  if (first === undefined || last === undefined) return [null, null]
  return first === last ? [first - OF_ONE / 2, last + OF_ONE / 2] : [first, last]
}

/** Whether instants of so long a time need their date. */
export function isDated(times: readonly number[]): boolean {
  return (times.at(-1) ?? 0) - (times[0] ?? 0) > OF_SECONDS
}

/** Values between two gaps: no line leads to them, so they are drawn as points. */
export function alone(values: readonly (number | null | undefined)[]): number[] {
  const isGap = (value: number | null | undefined): boolean => value === null || value === undefined
  return values.flatMap((value, at) => (!isGap(value) && isGap(values[at - 1]) && isGap(values[at + 1]) ? [at] : []))
}

/** How a chart looks, by the variables of the theme in force at `host`. */
export function optionsOf(host: HTMLElement, look: Look): uPlot.Options {
  const style = getComputedStyle(host)
  const colour = (name: string): string => style.getPropertyValue(name).trim()
  const font = `11px ${style.fontFamily}`
  const [ink, line] = [colour('--ink-faint'), colour('--line')]
  const axis = { stroke: ink, font, ticks: { show: false }, grid: { stroke: line, width: 1 } }
  const ticks = (plot: uPlot, seconds: number[]): string[] => {
    const { min, max } = plot.scales['x'] ?? {}
    const words = instants((max ?? 0) - (min ?? 0), look.tag)
    return seconds.map((second) => words.format(second * 1000))
  }
  return {
    width: Math.max(host.clientWidth, 100),
    height: look.height,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: true, range: (plot) => rangeOf(plot.data[0]) }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.15 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, space: 110, size: 28, values: ticks },
      { ...axis, size: 58, values: (_, values) => values.map((value) => look.format(value)) },
    ],
    series: [
      {},
      ...look.series.map((one) => ({
        label: one.label,
        stroke: colour(`--series-${one.colour}`),
        fill: `color-mix(in srgb, ${colour(`--series-${one.colour}`)} 10%, transparent)`,
        width: 2,
        points: { show: true, size: 5, filter: (plot: uPlot, index: number) => alone(Array.from(plot.data[index] ?? [])) },
      })),
    ],
  }
}
