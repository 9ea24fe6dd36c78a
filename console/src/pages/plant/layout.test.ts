import { expect, it } from 'vitest'
import { layOut } from './layout'

it('lies down where there is room and stands up on a phone, within its width', () => {
  for (const width of [240, 328, 700, 860, 1136, 2000]) {
    const { isWide, boxes, belts, height } = layOut(width, 5)
    expect(isWide).toBe(width >= 860)
    expect([boxes.length, belts.length]).toEqual([5, 4])
    for (const box of boxes) {
      expect(box.x + box.width).toBeLessThanOrEqual(width + 0.001)
      expect(box.y + box.height).toBeLessThanOrEqual(height)
      expect(box.width).toBeGreaterThan(140)
    }
  }
})
