/** The settings of the sampler in the order in which it applies them, with the ends of their sliders and what leaves them off. */
export const SETTINGS = {
  repetition_penalty: { off: 1, least: 0.5, most: 2, step: 0.05 },
  frequency_penalty: { off: 0, least: -2, most: 2, step: 0.1 },
  presence_penalty: { off: 0, least: -2, most: 2, step: 0.1 },
  temperature: { off: 1, least: 0, most: 2, step: 0.05 },
  top_k: { off: 0, least: 0, most: 200, step: 1 },
  top_p: { off: 1, least: 0.01, most: 1, step: 0.01 },
  min_p: { off: 0, least: 0, most: 1, step: 0.01 },
} as const

export type Setting = keyof typeof SETTINGS
export type Settings = Record<Setting, number>

export const NAMES = Object.keys(SETTINGS) as Setting[]

export const DEFAULTS: Settings = Object.fromEntries(NAMES.map((name) => [name, SETTINGS[name].off])) as Settings

/** Only what is set goes to the server. */
export function settingsOf(settings: Settings): Partial<Settings> {
  return Object.fromEntries(NAMES.filter((name) => settings[name] !== SETTINGS[name].off).map((name) => [name, settings[name]]))
}
