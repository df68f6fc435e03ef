//! Who holds what where, and who outranks whom.

use super::*;

fn tenant(n: u128) -> TenantId {
    TenantId::new(Uuid::from_u128(n))
}

#[test]
fn a_membership_reaches_its_own_tenant_only() {
    let member = Principal::User {
        id: UserId::new(Uuid::nil()),
        session: Uuid::nil(),
        platform_role: None,
        memberships: vec![
            Membership { tenant: tenant(1), role: Role::Admin },
            Membership { tenant: tenant(2), role: Role::Viewer },
        ],
    };
    assert_eq!(member.reach(Permission::ViewTenants), Some(Reach::Tenants(vec![tenant(1)])));
    assert!(!member.may(Permission::ViewTenants));
    assert!(member.may_in(Permission::ManageApiKeys, tenant(1)));
    assert!(!member.may_in(Permission::ManageApiKeys, tenant(2)));
    assert_eq!(member.reach(Permission::CreateTenant), None);
    assert!(member.may_enter(tenant(2)) && !member.may_enter(tenant(3)));
}

#[test]
fn a_bound_token_never_leaves_its_tenant() {
    let token = Principal::Token {
        id: TokenId::new(Uuid::nil()),
        user: None,
        permissions: vec![Permission::ViewUsers],
        tenant: Some(tenant(1)),
    };
    assert!(token.may_in(Permission::ViewUsers, tenant(1)));
    assert!(!token.may_in(Permission::ViewUsers, tenant(2)));
    assert!(!token.may_in(Permission::ViewTenants, tenant(1)));
    assert!(token.may_enter(tenant(1)) && !token.may_enter(tenant(2)));
}

fn memberships(roles: &[(u128, Role)]) -> Vec<Membership> {
    roles.iter().map(|(n, role)| Membership { tenant: tenant(*n), role: *role }).collect()
}

#[test]
fn a_principal_outranks_a_user_only_if_it_holds_more_wherever_the_user_has_a_role() {
    let user = |platform_role, roles: &[(u128, Role)]| Principal::User {
        id: UserId::new(Uuid::nil()),
        session: Uuid::nil(),
        platform_role,
        memberships: memberships(roles),
    };
    let admin = user(None, &[(1, Role::Admin), (2, Role::Fde)]);
    let token = |permissions: &[Permission], tenant| Principal::Token {
        id: TokenId::new(Uuid::nil()),
        user: None,
        permissions: permissions.to_vec(),
        tenant,
    };
    let reset = Permission::ResetUserPassword;
    let all = token(Permission::ALL, None);
    for (principal, platform_role, roles, outranks) in [
        (&admin, None, &[][..], true),
        (&admin, None, &[(1, Role::Fde)], true),
        (&admin, None, &[(1, Role::Admin)], false),
        (&admin, None, &[(1, Role::Fde), (2, Role::Viewer)], true),
        (&admin, None, &[(1, Role::Viewer), (2, Role::Fde)], false),
        (&admin, None, &[(1, Role::Viewer), (3, Role::Viewer)], false),
        (&admin, Some(Role::Viewer), &[(1, Role::Viewer)], false),
        (&user(Some(Role::Admin), &[]), None, &[(3, Role::Fde)], true),
        (&user(Some(Role::Admin), &[]), None, &[(3, Role::Admin)], false),
        (&user(Some(Role::Admin), &[]), Some(Role::Fde), &[(3, Role::Fde)], true),
        (&user(Some(Role::Admin), &[]), Some(Role::Admin), &[], false),
        (&user(Some(Role::SuperAdmin), &[]), Some(Role::Admin), &[(3, Role::Admin)], true),
        (&user(Some(Role::SuperAdmin), &[]), Some(Role::SuperAdmin), &[], false),
        (&token(&[reset], None), None, &[(1, Role::Viewer)], false),
        (&token(&[reset, Permission::ReadProfiles], None), None, &[(1, Role::Viewer)], true),
        (&token(&[Permission::ReadProfiles], None), None, &[(1, Role::Viewer)], false),
        (&token(Permission::ALL, Some(tenant(1))), None, &[(1, Role::Admin)], true),
        (&token(Permission::ALL, Some(tenant(1))), None, &[(2, Role::Viewer)], false),
        (&all, Some(Role::Admin), &[(1, Role::Admin)], true),
        (&all, Some(Role::SuperAdmin), &[], false),
        (&Principal::Root, Some(Role::SuperAdmin), &[(1, Role::Admin)], true),
        (&Principal::Anonymous, None, &[(1, Role::Viewer)], false),
    ] {
        let found = principal.outranks(platform_role, &memberships(roles));
        assert_eq!(found, outranks, "{principal:?} over {platform_role:?} {roles:?}");
    }
}

#[test]
fn only_the_root_the_operator_and_a_super_admin_in_person_vouch_for_an_address() {
    let user = |platform_role| Principal::User {
        id: UserId::new(Uuid::nil()),
        session: Uuid::nil(),
        platform_role,
        memberships: memberships(&[(1, Role::Admin)]),
    };
    let token = Principal::Token {
        id: TokenId::new(Uuid::nil()),
        user: Some(UserId::new(Uuid::nil())),
        permissions: Permission::ALL.to_vec(),
        tenant: None,
    };
    for (principal, vouches) in [
        (Principal::Root, true),
        (Principal::Operator, true),
        (user(Some(Role::SuperAdmin)), true),
        (user(Some(Role::Admin)), false),
        (user(None), false),
        (token, false),
        (Principal::Anonymous, false),
    ] {
        assert_eq!(principal.vouches(), vouches, "{principal:?}");
    }
}

#[test]
fn an_api_key_never_leaves_its_tenant() {
    let key = Principal::ApiKey {
        id: TokenId::new(Uuid::nil()),
        user: None,
        permissions: vec![Permission::ViewUsers],
        tenant: tenant(1),
    };
    assert!(key.may_in(Permission::ViewUsers, tenant(1)));
    assert!(!key.may(Permission::ViewUsers));
    assert!(!key.may_in(Permission::ViewUsers, tenant(2)));
    assert!(key.may_enter(tenant(1)) && !key.may_enter(tenant(2)));
    assert_eq!(key.home(), Some(tenant(1)));
}
