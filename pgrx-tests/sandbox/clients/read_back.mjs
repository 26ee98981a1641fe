// Reads with the services' own clients what somebody else wrote, and prints it as JSON.
// Arguments: HubSpot's base URL and token, Mailchimp's base URL, key and list id, an e-mail address.
import { createHash } from 'node:crypto'
import hubspot from '@hubspot/api-client'
import mailchimp from '@mailchimp/mailchimp_marketing'

const [hubspotUrl, accessToken, mailchimpUrl, apiKey, list, email] = process.argv.slice(2)
const { contacts, companies } = new hubspot.Client({ accessToken, basePath: hubspotUrl, numberOfApiCallRetries: 0 }).crm
mailchimp.setConfig({ apiKey, server: 'us1' })
mailchimp.basePath = `${mailchimpUrl}/3.0`

const contact = await contacts.basicApi.getById(email, ['email', 'firstname', 'phone', 'crm_id'], undefined, ['companies'], false, 'email')
const linked = contact.associations?.companies?.results ?? []
const company = linked.length && (await companies.basicApi.getById(String(linked[0].id), ['name', 'domain', 'crm_id']))
const member = await mailchimp.lists.getListMember(list, createHash('md5').update(email.toLowerCase()).digest('hex'))
console.log(JSON.stringify({
  contact: contact.properties,
  company: company ? company.properties : null,
  member: { email: member.email_address, status: member.status, name: member.merge_fields.FNAME },
}))
