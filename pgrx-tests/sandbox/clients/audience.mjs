// Reads a Mailchimp audience with Mailchimp's own client, and what its members did, and prints it as JSON.
// Arguments: base URL, API key, list id.
import mailchimp from '@mailchimp/mailchimp_marketing'

const [base, apiKey, list] = process.argv.slice(2)
mailchimp.setConfig({ apiKey, server: 'us1' })
mailchimp.basePath = `${base}/3.0`

const members = {}
for (const status of ['subscribed', 'unsubscribed', 'pending', 'cleaned', 'archived']) {
  const page = await mailchimp.lists.getListMembersInfo(list, { status, count: 1000 })
  for (const { email_address, id, merge_fields, tags, language } of page.members) {
    const own = await mailchimp.lists.getListMember(list, id)
    const all = await mailchimp.lists.getListMemberTags(list, id)
    members[email_address] = { status, same: own.status === status, merge_fields, language, tags: tags.map((tag) => tag.name), all_tags: all.tags.map((tag) => tag.name) }
  }
}
const activity = []
for (const campaign of (await mailchimp.campaigns.list({ status: 'sent', listId: list })).campaigns) {
  const report = await mailchimp.reports.getEmailActivityForCampaign(campaign.id, { count: 1000 })
  for (const { email_address, activity: events } of report.emails) {
    for (const { action, url } of events) activity.push([campaign.id, email_address, action, url ?? ''].join(' '))
  }
}
const { id, name, double_optin } = await mailchimp.lists.getList(list)
console.log(JSON.stringify({ list: { id, name, double_optin }, members, activity: activity.sort() }))
