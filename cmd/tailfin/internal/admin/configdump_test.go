package admin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

func parseJSON[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %.300s", err, text)
	}
	return v
}

func TestConfigHasNoSecrets(t *testing.T) {
	type nested struct {
		Password string `json:"password"`
		User     string `json:"user"`
	}
	conf := struct {
		Listen  string         `json:"listen"`
		Sink    string         `json:"sink"`
		Token   string         `json:"nats_token"`
		Key     string         `json:"key"`
		MAC     string         `json:"acme_eab_mac_key"`
		Unset   string         `json:"secret"`
		List    []nested       `json:"list"`
		URLs    []string       `json:"urls"`
		Headers map[string]any `json:"headers"`
	}{
		Listen: ":4433", Sink: "nats://me:hunter2@queue.example:4222/uploads", Token: "hunter2", Key: "/etc/tailfin/key.pem", MAC: "hunter2",
		List: []nested{{"hunter2", "me"}}, URLs: []string{"nats://hunter2@queue.example", "https://plain.example/x?y=1"},
		Headers: map[string]any{"Authorization": "Bearer hunter2", "X-Api-Key": "hunter2", "Accept": "text/plain"},
	}
	_, base := start(t, Options{Config: func() any { return conf }})
	resp, body := get(t, client(t), base+"/debug/config")
	if resp.StatusCode != http.StatusOK || strings.Contains(body, "hunter2") {
		t.Errorf("%s\n%s", resp.Status, body)
	}
	got := parseJSON[map[string]any](t, body)
	for key, want := range map[string]string{
		"listen": ":4433", "key": "/etc/tailfin/key.pem", "nats_token": redacted, "secret": "",
		"sink": "nats://me:redacted@queue.example:4222/uploads",
	} {
		if got[key] != want {
			t.Errorf("%s is %v; want %q", key, got[key], want)
		}
	}
	if !strings.Contains(body, "https://plain.example/x?y=1") || !strings.Contains(body, `"user": "me"`) || !strings.Contains(body, "text/plain") {
		t.Errorf("more than secrets is missing:\n%s", body)
	}
}

func TestConfigThatIsNotJSON(t *testing.T) {
	_, base := start(t, Options{Config: func() any { return func() {} }})
	if resp, body := get(t, client(t), base+"/debug/config"); resp.StatusCode != http.StatusInternalServerError || !strings.Contains(body, "cannot be shown as JSON") {
		t.Errorf("%s %s", resp.Status, body)
	}
}
