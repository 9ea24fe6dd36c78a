import { day } from '$lib/format'
import { dictionary } from '$lib/i18n/dictionary'

/** Texts of the budgets and their alerts. */
export const t = dictionary(
  {
    budgets: 'Budgets',
    budgetsHint: 'What is used of each in its present window. Budgets are set at their customer.',
    customer: 'Customer',
    all: 'All',
    noBudgets: 'No budgets',
    noBudgetsHint: 'A customer, a team, a project or a key can have one: set it on the page of the customer.',
    whose: 'Whose',
    used: 'Used',
    left: 'Left',
    held: 'Held',
    alertsAt: 'Alerts at',
    wasRaised: 'raised:',
    since: 'Window from',
    ever: 'the beginning',
    more: 'More budgets',
    'level.key': 'Key',
    'level.project': 'Project',
    'level.team': 'Team',
    'level.organisation': 'Customer',
    'level.end_user': 'End user',
  },
  {
    budgets: '预算',
    budgetsHint: '各项预算在当前窗口内的使用情况。预算在客户页面中设定。',
    customer: '客户',
    all: '全部',
    noBudgets: '没有预算',
    noBudgetsHint: '客户、团队、项目与密钥都可以有预算，请在客户页面中设定。',
    whose: '对象',
    used: '已用',
    left: '剩余',
    held: '预留',
    alertsAt: '告警阈值',
    wasRaised: '已告警：',
    since: '窗口起始',
    ever: '最初',
    more: '更多预算',
    'level.key': '密钥',
    'level.project': '项目',
    'level.team': '团队',
    'level.organisation': '客户',
    'level.end_user': '最终用户',
  },
)

const LEVELS = ['key', 'project', 'team', 'organisation', 'end_user'] as const

/** What a level of budgets is called. */
export function levelOf(level: string): string {
  const known = LEVELS.find((one) => one === level)
  return known ? t(`level.${known}`) : level
}

/** The first day of a budget's window, of which one that never begins anew has none. */
export const sinceOf = (window: string): string => (window === 'all' ? t('ever') : day(window))
