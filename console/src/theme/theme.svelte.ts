import { keep, kept } from '$lib/store/kept'

/** What a person may choose; `system` follows the device. */
export const CHOICES = ['system', 'light', 'dark'] as const
export type Choice = (typeof CHOICES)[number]

const device = window.matchMedia('(prefers-color-scheme: dark)')

class Theme {
  choice = $state<Choice>(kept('theme', CHOICES) ?? 'system')
  #deviceIsDark = $state(device.matches)
  readonly isDark = $derived(this.choice === 'dark' || (this.choice === 'system' && this.#deviceIsDark))

  constructor() {
    device.addEventListener('change', (event) => (this.#deviceIsDark = event.matches))
  }

  choose(choice: Choice): void {
    this.choice = choice
    keep('theme', choice)
  }
}

export const theme = new Theme()
