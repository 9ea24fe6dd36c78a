/** Where a station stands in the drawing, in pixels. */
export interface Box {
  x: number
  y: number
  width: number
  height: number
}

interface Layout {
  isWide: boolean
  width: number
  height: number
  boxes: Box[]
  /** Belts between the stations, as paths. */
  belts: string[]
}

/** Narrower drawings stand upright, one station below the other. */
const WIDE_PX = 860
const GAP_PX = 28
const WIDE_HEIGHT_PX = 230
const TALL_HEIGHT_PX = 128

/** Lays the line out in a width: pixels of the drawing are pixels of the screen, so that text keeps its size on a phone. */
export function layOut(width: number, count: number): Layout {
  const isWide = width >= WIDE_PX
  const length = isWide ? (width - GAP_PX * (count - 1)) / count : TALL_HEIGHT_PX
  const boxes = Array.from({ length: count }, (_, index): Box => {
    const start = index * (length + GAP_PX)
    return isWide
      ? { x: start, y: 0, width: length, height: WIDE_HEIGHT_PX }
      : { x: 0, y: start, width, height: TALL_HEIGHT_PX }
  })
  const belts = boxes.slice(0, -1).map(({ x, y, width: w, height: h }) =>
    isWide ? `M${x + w + 3} ${y + h / 2}h${GAP_PX - 6}` : `M${x + 34} ${y + h + 3}v${GAP_PX - 6}`,
  )
  const height = isWide ? WIDE_HEIGHT_PX : count * length + GAP_PX * (count - 1)
  return { isWide, width, height, boxes, belts }
}
