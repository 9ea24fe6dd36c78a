import type uPlot from 'uplot'

/** Number of the theme's colour for curves. */
export type Colour = 1 | 2 | 3 | 4

export interface Series {
  label: string
  values: readonly (number | null | undefined)[]
  colour: Colour
}

interface Look {
  series: readonly Series[]
  format: (value: number | null | undefined) => string
  height: number
  tag: string
}

/** How a chart looks, by the variables of the theme in force at `host`. */
export function optionsOf(host: HTMLElement, look: Look): uPlot.Options {
  const style = getComputedStyle(host)
  const colour = (name: string): string => style.getPropertyValue(name).trim()
  const font = `11px ${style.fontFamily}`
  const [ink, line] = [colour('--ink-faint'), colour('--line')]
  const axis = { stroke: ink, font, ticks: { show: false }, grid: { stroke: line, width: 1 } }
  const clock = new Intl.DateTimeFormat(look.tag, { timeStyle: 'medium' })
  return {
    width: Math.max(host.clientWidth, 100),
    height: look.height,
    legend: { show: false },
    cursor: { y: false, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.15 : 1] } },
    axes: [
      { ...axis, grid: { show: false }, space: 110, size: 28, values: (_, ticks) => ticks.map((s) => clock.format(s * 1000)) },
      { ...axis, size: 58, values: (_, ticks) => ticks.map((value) => look.format(value)) },
    ],
    series: [
      {},
      ...look.series.map((one) => ({
        label: one.label,
        stroke: colour(`--series-${one.colour}`),
        fill: `color-mix(in srgb, ${colour(`--series-${one.colour}`)} 10%, transparent)`,
        width: 2,
        points: { show: false },
      })),
    ],
  }
}
