"""Exercises the vendor's Python client: tenants, people, bulk and System calls."""

import os

from databunkerpro import DatabunkerproAPI

URL, ROOT_TOKEN = os.environ["URL"], os.environ["ROOT_TOKEN"]
ADA = "ada@example.com"


def ok(answer):
    """Fails unless the answer is a success; returns the answer."""
    assert answer.get("status") == "ok", answer
    return answer


def refused(answer, words):
    """Fails unless the answer is an error whose message contains these words."""
    assert answer.get("status") == "error" and words in answer["message"], answer


def make_tenant(root, name):
    made = ok(root.create_tenant({"tenantname": name, "tenantorg": "org", "email": ADA}))
    assert isinstance(made["tenantid"], int), made
    return made["tenantid"], DatabunkerproAPI(URL, made["xtoken"], name)


def tenants(root):
    number, acme = make_tenant(root, "pyacme")
    refused(root.create_tenant({"tenantname": "pyacme", "tenantorg": "x"}), "Duplicate")
    refused(root.create_tenant({"tenantname": "py-acme", "tenantorg": "x"}), "format")
    refused(acme.create_tenant({"tenantname": "other", "tenantorg": "x"}), "main tenant")
    assert ok(root.get_tenant(number))["tenantname"] == "pyacme"
    assert ok(root.get_tenant(str(number)))["tenantorg"] == "org"
    ok(root.update_tenant(number, {"tenantorg": "neworg"}))
    ok(acme.update_tenant(number, {"tenantname": "pyrenamed"}))
    refused(acme.get_user("email", ADA), "Access denied")  # the client still names the old tenant
    acme = DatabunkerproAPI(URL, acme.x_bunker_token, "pyrenamed")
    refused(acme.get_user("email", ADA), "not found")
    refused(DatabunkerproAPI(URL, ROOT_TOKEN, "pyacme").get_user("email", ADA), "tenant was not found")
    names = [row["tenantname"] for row in ok(root.list_tenants(0, 100))["rows"]]
    assert "pyrenamed" in names and "pyacme" not in names, names
    refused(acme.list_tenants(), "main tenant")
    other, doomed = make_tenant(root, "pydoomed")
    ok(root.delete_tenant(other))
    refused(doomed.get_user("email", ADA), "Access denied")
    return number, acme


def people(api):
    profile = {"email": ADA, "name": "Adä Łovelace", "phone": 4711, "n": 1.5, "list": [1, {"a": None}]}
    made = ok(api.create_user(profile, {"finaltime": None, "slidingtime": "30d"}, {"reason": "a test"}))
    read = ok(api.get_user("token", made["token"]))
    assert read["profile"] == profile and read["version"] == 1, read
    assert read["slidingtime"] == "30d" and read["expirationtime"] > 0, read
    refused(api.create_user({"email": ADA.upper()}), "Duplicate index: email")
    refused(api.create_user({}, {"finaltime": "soon"}), "format")
    ok(api.update_user("phone", "4711", {"name": None, "phone": "+9876543210"}))
    ok(api.patch_user("email", ADA, [{"op": "replace", "path": "/n", "value": 2}]))
    read = ok(api.get_user("phone", "+9876543210"))
    assert read["profile"]["n"] == 2 and "name" not in read["profile"], read
    refused(api.get_user("phone", "4711"), "not found")
    versions = ok(api.list_user_versions("email", ADA))["versions"]
    assert [v["version"] for v in versions] == [1, 2, 3], versions
    assert ok(api.get_user("email", ADA, version=1))["profile"] == profile
    own = ok(api.create_user_x_token("email", ADA, {"finaltime": "10m"}))
    person = DatabunkerproAPI(URL, own["xtoken"])
    ok(person.get_user("token", made["token"]))
    refused(person.delete_user("token", made["token"]), "Access denied")
    events = ok(api.list_user_audit_events("email", ADA))["rows"]
    ok(api.get_audit_event(events[0]["auditeventuuid"]))
    ok(api.delete_users_bulk([{"mode": "email", "identity": ADA}]))
    refused(api.get_user("email", ADA), "not found")


def all_tenants(root, one, other):
    tokens = [ok(api.create_user({"email": ADA, "login": "ada"}))["token"] for api in (one, other)]
    unlock = ok(one.bulk_list_unlock())["unlockuuid"]
    found = ok(one.search_user("ada@", unlock))
    assert [row["token"] for row in found["rows"]] == tokens[:1], found
    refused(root.get_user_profiles("email", ADA, unlock), "unlockuuid")
    refused(one.get_user_profiles("email", ADA, unlock), "main tenant")
    unlock = ok(root.bulk_list_unlock())["unlockuuid"]
    found = ok(root.get_user_profiles("email", ADA, unlock))
    assert [row["token"] for row in found["rows"]] == tokens and found["total"] == 2, found
    assert len(ok(root.search_user_profiles("ada", unlock))["rows"]) == 2
    gone = ok(root.delete_user_profiles("email", ADA, unlock, other.x_bunker_tenant))
    assert [row["token"] for row in gone["rows"]] == tokens[1:], gone
    back = ok(root.restore_user_profile(tokens[1], unlock, gone["rows"][0]["tenantid"]))
    assert back["result"] == "restored" and back["token"] == tokens[1], back
    ok(root.delete_user_profiles("login", "ada", unlock))
    refused(one.get_user("email", ADA), "not found")
    stats = ok(root.get_system_stats())["stats"]
    assert stats["numtenants"] >= 2, stats
    metrics = root.get_system_metrics()
    assert any(name.startswith("http_requests_total") for name in metrics), metrics


def main():
    root = DatabunkerproAPI(URL + "/", ROOT_TOKEN)
    refused(DatabunkerproAPI(URL, "DEMO").get_user("email", ADA), "Access denied")
    refused(DatabunkerproAPI(URL).get_user("email", ADA), "Access denied")
    _, acme = tenants(root)
    people(acme)
    people(root)  # in the main tenant
    _, beta = make_tenant(root, "pybeta")
    all_tenants(root, acme, beta)


main()
