package config

// cloud is where Microsoft runs its services for one sort of customers. National clouds, "Microsoft Graph deployments"
// and "National clouds authentication" (read November 2026). The SMTP hosts of usgov and china are what users report. Of
// the upload hosts Microsoft documents outlook.office.com alone ("Attach large files to Outlook messages", read in November
// 2026); those of the national clouds are their Outlook hosts.
type cloud struct {
	authority, graph, smtp         string
	graphResource                  string
	smtpDelegated, smtpApplication string // what the scopes SMTP.Send and .default begin with
	uploadHosts                    []string
}

var clouds = map[string]cloud{
	"global": {
		"https://login.microsoftonline.com", "https://graph.microsoft.com/v1.0", "smtp.office365.com:587",
		"https://graph.microsoft.com", "https://outlook.office.com", "https://outlook.office365.com",
		[]string{"outlook.office.com", "outlook.office365.com"},
	},
	"usgov": {
		"https://login.microsoftonline.us", "https://graph.microsoft.us/v1.0", "smtp.office365.us:587",
		"https://graph.microsoft.us", "https://outlook.office365.us", "https://outlook.office365.us",
		[]string{"outlook.office365.us"},
	},
	// No SMTP host is known; the scope is that of the host for IMAP and POP there.
	"usgov-dod": {
		"https://login.microsoftonline.us", "https://dod-graph.microsoft.us/v1.0", "",
		"https://dod-graph.microsoft.us", "https://outlook-dod.office365.us", "https://outlook-dod.office365.us",
		[]string{"webmail.apps.mil", "outlook-dod.office365.us"},
	},
	"china": {
		"https://login.partner.microsoftonline.cn", "https://microsoftgraph.chinacloudapi.cn/v1.0", "smtp.partner.outlook.cn:587",
		"https://microsoftgraph.chinacloudapi.cn", "https://partner.outlook.cn", "https://partner.outlook.cn",
		[]string{"partner.outlook.cn"},
	},
}

// cloudNames in the order of the manual.
var cloudNames = []string{"global", "usgov", "usgov-dod", "china"}

// fillEndpoints sets what the file left open from the cloud.
func fillEndpoints(p *Provider) {
	c := clouds[p.Cloud]
	for _, e := range []struct {
		at   *string
		want string
	}{{&p.Authority, c.authority}, {&p.Graph, c.graph}, {&p.SMTP, c.smtp}} {
		if *e.at == "" {
			*e.at = e.want
		}
	}
	p.GraphResource, p.SMTPScopeHost, p.SMTPScopeHostAppOnly = c.graphResource, c.smtpDelegated, c.smtpApplication
	p.UploadHosts = c.uploadHosts
}
