//! One test for each bound in `limits`: at the bound it works, past it there
//! is the error that the bound's module gives.
//!
//! Bounds of front ends are held where those are tested: see [`ELSEWHERE`].

use std::sync::Arc;

use stratafs::chunk::{ChunkPool, Content, ContentBuilder};
use stratafs::errno::Errno;
use stratafs::image::{Image, ImageError};
use stratafs::layer::{LayerBuilder, LayerError};
use stratafs::limits::{
    BLOCK_BYTES, CHUNK_BYTES, DEFAULT_MAX_BYTES, DEFAULT_MAX_CHANGED, DEFAULT_MAX_INODES,
    DEFAULT_MAX_LAYER_BYTES, DEFAULT_MAX_OPEN, FREE_BLOCKS, MAX_EXPANSION_RATIO, MAX_FILE_BYTES,
    MAX_LAYER_DEPTH, MAX_LAYER_ENTRIES, MAX_LAYER_PATH_BYTES, MAX_LAYERS, MAX_LINKS,
    MAX_NAME_BYTES, MAX_PATH_BYTES, MAX_SYMLINK_BYTES, MAX_SYMLINKS, MAX_XATTR_BYTES,
    QUOTA_BYTES_PER_BLOCK,
};
use stratafs::meta::Meta;
use stratafs::name::{LayerPath, Name, NameError};
use stratafs::source::SourceOptions;
use stratafs::vfs::{Access, Follow, Fs, OpenFlags};

use crate::support::tree::{bytes, edit, fs, make, pattern, stat, view};

/// Bounds whose test needs a guest, and the test that holds them.
pub const ELSEWHERE: &[(&str, &str)] = &[
    (
        "MAX_EARLY_ANSWER_BYTES",
        "the_first_parts_of_an_answer_have_a_bound",
    ),
    (
        "MAX_MESSAGE_BYTES",
        "who_talks_nonsense_is_let_go_and_others_are_not",
    ),
    (
        "MAX_CONNECTIONS",
        "connections_and_calls_past_the_bound_wait",
    ),
    ("MAX_CALLS", "connections_and_calls_past_the_bound_wait"),
    ("MAX_CONTAINERS", "containers_past_the_bound_are_refused"),
    (
        "MAX_ROOTS_BYTES",
        "what_the_table_says_is_what_a_client_goes_by",
    ),
    (
        "MAX_GROUPS",
        "an_unreadable_file_and_an_invalid_user_are_refused_by_name",
    ),
    (
        "MAX_HANDLES",
        "a_guest_that_hoards_sockets_ends_alone_with_as_many_as_it_may_have",
    ),
    ("MAX_LOOKUPS", "names_past_the_bound_wait_for_others"),
    (
        "MAX_NAME_SERVERS",
        "files_of_a_pod_say_how_names_are_looked_up",
    ),
    ("MAX_SEARCHED", "files_of_a_pod_say_how_names_are_looked_up"),
    (
        "MAX_NAME_RECORDS",
        "invalid_answers_are_passed_over_and_odd_ones_hold_nobody_up",
    ),
    (
        "MAX_NAME_ADDRESSES",
        "invalid_answers_are_passed_over_and_odd_ones_hold_nobody_up",
    ),
    (
        "MAX_USERS_BYTES",
        "layers_hide_those_below_and_links_lead_nowhere",
    ),
    (
        "MAX_ADMITTED",
        "images_that_are_signed_are_remembered_up_to_a_bound",
    ),
    ("MAX_SPEC_BYTES", "a_large_file_is_not_read_to_its_end"),
    (
        "MAX_CONFIG_BYTES",
        "what_cannot_be_meant_is_refused_by_name",
    ),
    (
        "MAX_MOUNTS",
        "a_hostile_spec_is_refused_by_the_name_of_the_field",
    ),
    (
        "MAX_SYSCTLS",
        "a_hostile_spec_is_refused_by_the_name_of_the_field",
    ),
    (
        "MAX_ID_BYTES",
        "hostile_specs_are_refused_by_name_and_leave_nothing",
    ),
    (
        "MAX_REASON_BYTES",
        "a_reason_that_is_too_long_is_cut_between_characters",
    ),
    ("MAX_MANIFEST_BYTES", "content_past_a_bound_is_refused"),
    (
        "MAX_CONTENT_MESSAGE_BYTES",
        "content_past_a_bound_is_refused",
    ),
    (
        "MAX_PROGRAM_BYTES",
        "hostile_specs_are_refused_by_name_and_leave_nothing",
    ),
    ("MAX_PROGRAMS", "programs_are_kept_up_to_a_bound"),
    ("MAX_ROOTS", "roots_are_kept_up_to_a_bound"),
    (
        "MAX_SNAPSHOT_KEY_BYTES",
        "hostile_names_and_labels_are_names_or_refused",
    ),
    (
        "MAX_LABEL_BYTES",
        "hostile_names_and_labels_are_names_or_refused",
    ),
    (
        "MAX_SNAPSHOT_LABELS",
        "hostile_names_and_labels_are_names_or_refused",
    ),
    ("MAX_FILTER_BYTES", "invalid_filters_are_refused"),
    (
        "MAX_SNAPSHOT_DEPTH",
        "snapshots_lie_on_each_other_up_to_a_bound",
    ),
    (
        "MAX_SNAPSHOT_MESSAGE_BYTES",
        "invalid_messages_are_refused_and_others_are_answered",
    ),
    ("MAX_SNAPSHOT_CONNECTIONS", "clients_past_the_bound_wait"),
    (
        "MAX_BOUND_FILE_BYTES",
        "what_a_guest_cannot_be_given_is_refused_by_name",
    ),
    ("MAX_LAST_WORDS", "what_is_said_about_a_guest_has_a_bound"),
    ("MAX_INPUT_BYTES", "a_read_takes_no_more_than_a_bound"),
    (
        "MAX_HTTP_REQUEST_BYTES",
        "a_request_past_its_bound_has_no_answer",
    ),
    (
        "MAX_HTTP_CONNECTIONS",
        "so_many_ask_at_a_time_and_others_wait",
    ),
    (
        "MAX_WAITING_OUTPUT_BYTES",
        "a_full_fifo_takes_no_more_than_a_bound",
    ),
    (
        "MAX_WAITING_EVENTS",
        "events_that_find_no_room_are_lost_and_hold_nobody_up",
    ),
    (
        "MAX_FINDINGS",
        "findings_of_a_rule_are_listed_up_to_a_bound",
    ),
    ("MAX_SCANNED_FILE_BYTES", "no_more_is_read_than_a_bound"),
    ("MAX_SCANNED_BYTES", "no_more_is_read_than_a_bound"),
    ("MAX_GLOB_BYTES", "patterns_match_as_their_words_say"),
    ("MAX_CACHE_LABEL_BYTES", "a_list_of_steps_has_bounds"),
    ("MAX_MISSED_PATHS", "what_is_missed_is_kept_up_to_a_bound"),
    ("MAX_SAMPLE_BYTES", "compression_is_measured"),
    ("MAX_PAGE_BYTES", "a_page_of_many_files_is_bounded"),
    (
        "MAX_ASYNC_FILE_BYTES",
        "one_call_moves_no_more_than_the_bound",
    ),
    (
        "MAX_TRACE_LINE_BYTES",
        "traces_with_long_lines_or_many_paths_are_refused",
    ),
    (
        "MAX_TRACED_PATHS",
        "traces_with_long_lines_or_many_paths_are_refused",
    ),
    ("MAX_RECIPE_BYTES", "a_recipe_has_a_bound"),
    ("MAX_INSTRUCTIONS", "a_recipe_has_a_bound"),
    ("MAX_STAGES", "stages_have_a_bound"),
    ("MAX_EXPANDED_BYTES", "expansion_has_bounds"),
    ("MAX_EXPANSION_DEPTH", "expansion_has_bounds"),
    ("MAX_EXPANSION_STEPS", "expansion_has_bounds"),
    ("MAX_WILDCARD_BYTES", "a_pattern_is_bounded_and_never_slow"),
    ("MAX_IGNORE_PATTERNS", "invalid_patterns_are_named"),
    (
        "MAX_ENVIRONMENT_BYTES",
        "an_environment_that_doubles_is_stopped",
    ),
    ("MAX_PLANNED_BYTES", "hostile_recipes_end_by_a_bound"),
    ("MAX_SECRET_BYTES", "secrets_and_output_have_bounds"),
    ("MAX_RUN_OUTPUT_BYTES", "secrets_and_output_have_bounds"),
    (
        "MAX_CHECKPOINT_MEMORY",
        "a_memory_past_the_bound_is_refused",
    ),
    ("MAX_CHECKPOINT_PROGRAM", "programs_and_states_have_a_bound"),
    ("MAX_CHECKPOINT_STATE", "programs_and_states_have_a_bound"),
    ("MAX_KNOWN_RUNS", "what_no_guest_can_know_is_found"),
    ("MAX_KNOWN_TIMES", "what_no_guest_can_know_is_found"),
    (
        "MAX_KNOWN_ORDER_BYTES",
        "orders_that_take_too_much_are_left_out",
    ),
    (
        "MAX_CONTINUED_BYTES",
        "a_stack_whose_code_or_frames_are_too_large_is_refused",
    ),
    (
        "MAX_FRAME_PAGES",
        "a_stack_whose_code_or_frames_are_too_large_is_refused",
    ),
    ("MAX_ADDED_TYPE_VALUES", "types_that_are_added_have_a_bound"),
    (
        "MAX_ADDED_CODE_RATIO",
        "code_that_is_added_has_a_bound_for_the_whole_program",
    ),
    (
        "ADDED_CODE_BYTES",
        "code_that_is_added_has_a_bound_for_the_whole_program",
    ),
    ("MAX_CONTINUATION_BYTES", "code_that_goes_on_has_a_bound"),
    (
        "OBJECT_PART_BYTES",
        "blobs_of_several_parts_come_back_and_go_on",
    ),
    (
        "MAX_OBJECT_ANSWER_BYTES",
        "faults_of_an_object_store_are_tried_again_or_told",
    ),
    (
        "OBJECT_LEASE_SECONDS",
        "a_collection_and_a_push_keep_out_of_each_others_way",
    ),
    (
        "MAX_REFERRERS",
        "lists_of_referrers_have_a_bound_and_may_lie",
    ),
    (
        "MAX_SIGNATURES",
        "no_more_than_so_many_signatures_are_looked_at",
    ),
    (
        "MAX_SIGNATURE_BYTES",
        "no_more_than_so_many_signatures_are_looked_at",
    ),
    ("MAX_KEY_BYTES", "a_signed_image_runs_and_another_does_not"),
    (
        "MAX_TOKEN_ANSWER_BYTES",
        "a_token_server_is_not_believed_either",
    ),
    ("MAX_ANSWER_HEADER_BYTES", "heads_have_a_bound"),
    (
        "MAX_REGISTRY_ERROR_BYTES",
        "errors_are_one_line_and_drive_no_terminal",
    ),
    (
        "MAX_RETRY_AFTER_SECONDS",
        "faults_that_stay_are_told_and_leave_nothing",
    ),
    ("MAX_TAG_PAGES", "lists_of_tags_end"),
    ("MAX_TAGS", "lists_of_tags_end"),
    ("UPLOAD_CHUNK_BYTES", "a_registry_may_want_larger_pieces"),
    (
        "MAX_UPLOAD_CHUNK_BYTES",
        "a_registry_may_want_larger_pieces",
    ),
    ("MAX_HELPER_BYTES", "a_credential_helper_keeps_it"),
    ("MAX_REGISTRY_CONFIG_BYTES", "a_file_has_a_bound"),
    ("MAX_INCOMING_AGE_SECONDS", "what_lies_for_long_goes"),
    (
        "FRAME_BYTES",
        "a_compressed_layer_is_an_archive_for_everybody",
    ),
    ("MAX_FRAME_BYTES", "a_table_that_lies_is_refused"),
    ("MAX_FRAME_CHUNKS", "a_table_that_lies_is_refused"),
    (
        "MAX_FRAME_TABLE_BYTES",
        "what_expands_past_the_limit_is_refused",
    ),
    (
        "MAX_LISTED_TABLE_BYTES",
        "a_first_start_asks_as_often_whatever_the_number_of_versions",
    ),
    (
        "MAX_LISTED_TABLES_BYTES",
        "invalid_joined_tables_are_refused",
    ),
    (
        "MAX_IMAGE_TABLES_BYTES",
        "tables_of_an_image_have_a_bound_together",
    ),
    (
        "MAX_PACKED_PACKS",
        "manifests_of_packs_that_lie_are_refused",
    ),
    (
        "MAX_PACKED_LAYERS_BYTES",
        "invalid_and_endless_layers_are_refused",
    ),
    (
        "MAX_INLINE_BLOB_BYTES",
        "small_blobs_come_with_the_manifest",
    ),
    ("MAX_INLINE_BYTES", "small_blobs_come_with_the_manifest"),
    ("MAX_PUSHED_PACKS", "many_pushes_name_few_packs"),
    ("KEPT_PACKS", "many_pushes_name_few_packs"),
    (
        "MIN_PUSHED_USE_PERCENT",
        "a_pack_that_is_mostly_unused_is_not_named_again",
    ),
    (
        "MAX_EARLIER_CHUNKS",
        "what_is_looked_at_of_earlier_packs_has_a_bound",
    ),
    (
        "MAX_FETCHED_BYTES",
        "what_is_read_is_fetched_and_nothing_else",
    ),
    (
        "MIN_FETCHED_BYTES",
        "what_is_read_is_fetched_and_nothing_else",
    ),
    ("MAX_FETCHES", "many_who_read_the_same_fetch_it_once"),
    ("MAX_HOMES", "homes_are_kept_by_place_and_up_to_a_bound"),
    (
        "FAILED_HOME_SECONDS",
        "a_home_that_failed_is_asked_last_for_a_while",
    ),
    (
        "FAILED_FETCH_SECONDS",
        "a_registry_that_goes_away_is_an_error_and_heals",
    ),
    (
        "MAX_PREFETCH_BYTES",
        "what_is_read_is_fetched_and_nothing_else",
    ),
    (
        "FILL_AFTER_SECONDS",
        "the_rest_of_an_image_comes_while_its_guest_runs",
    ),
    (
        "MAX_PASSWORD_BYTES",
        "login_is_kept_once_the_registry_has_let_in",
    ),
    (
        "MAX_CLOSE_BLOCKS",
        "a_close_costs_steps_for_what_was_written_since_and_never_more_than_a_bound",
    ),
    ("SPILL_RESERVE", "small_files_spill_too"),
    (
        "MAX_HOST_READ_BYTES",
        "reads_are_bounded_and_end_with_the_file",
    ),
    (
        "MAX_STREAM_WRITE_BYTES",
        "output_streams_write_through_and_trap_past_the_permit",
    ),
    (
        "MAX_STREAM_STEP_BYTES",
        "one_step_of_a_stream_moves_a_bounded_piece",
    ),
    (
        "MAX_POLL_SUBSCRIPTIONS",
        "polling_refuses_what_it_cannot_wait_for",
    ),
    ("MAX_DEVICE_STEP_BYTES", "devices_do_what_they_are_for"),
    ("MAX_TRACED_PATH_BYTES", "long_paths_and_contents_are_cut"),
    (
        "MAX_TRACED_CONTENT_BYTES",
        "long_paths_and_contents_are_cut",
    ),
    (
        "MAX_TRACED_BUFFERS",
        "lists_of_buffers_are_looked_at_in_part",
    ),
    ("MAX_XZ_MEMORY_BYTES", "xz_takes_bounded_memory"),
    ("MAX_ARTIFACT_BYTES", "programs_of_artifacts_have_a_bound"),
    ("MAX_OCI_DOCUMENT_BYTES", "documents_have_a_bound"),
    (
        "MAX_OCI_NESTING",
        "case_c1_45_indexes_nest_so_deep_and_no_deeper",
    ),
    ("MAX_OCI_IMAGES", "images_of_a_layout_have_a_bound"),
    (
        "REST_CHUNK_MIN_BYTES",
        "chunks_at_rest_are_neither_small_nor_large",
    ),
    (
        "REST_CHUNK_AVERAGE_BYTES",
        "chunks_at_rest_are_neither_small_nor_large",
    ),
    (
        "REST_CHUNK_MAX_BYTES",
        "chunks_at_rest_are_neither_small_nor_large",
    ),
    (
        "MIN_SCOPED_BYTES",
        "small_files_are_compared_with_the_base_only",
    ),
    (
        "MAX_FILES_OF_ONE_SIZE",
        "only_so_many_files_of_one_size_are_compared",
    ),
    (
        "MAX_OBJECTS_BY_SIZE",
        "past_the_bound_no_equal_file_is_found",
    ),
    (
        "OBJECT_BYTES",
        "a_full_budget_refuses_objects_and_lets_names_go",
    ),
    ("MAX_PACK_BYTES", "a_pack_ends_at_its_bound"),
    ("MIN_PACK_USE_PERCENT", "the_share_in_use_decides"),
    ("MAX_OPEN_PACKS", "packs_past_the_bound_need_no_descriptor"),
    ("MAX_TAG_BYTES", "tags_lead_to_images"),
    ("MAX_WHOLE_READ_BYTES", "a_hole_is_not_read_into_memory"),
    (
        "MAX_PROGRAM_BYTES",
        "a_hole_of_16_tib_costs_nobody_anything",
    ),
    (
        "MAX_JSON_CONTENT_BYTES",
        "a_hole_of_16_tib_costs_nobody_anything",
    ),
    ("MAX_LINE_BYTES", "lines_are_escaped_and_end"),
    ("MAX_CELL_BYTES", "no_text_of_an_image_drives_a_terminal"),
    (
        "MAX_WAITING_BYTES",
        "a_pipe_that_nobody_reads_holds_guests_up_once_and_what_is_lost_is_told",
    ),
    ("MAX_IN_FLIGHT", "what_answers_no_requests_is_named"),
    ("MAX_SESSIONS", "what_answers_no_requests_is_named"),
    (
        "MAX_CONNECTIONS",
        "more_connections_than_there_is_room_for_harm_nobody",
    ),
    ("MAX_HEAD_BYTES", "heads_have_a_bound"),
    (
        "MAX_EARLY_BODY_BYTES",
        "small_bodies_that_do_not_come_hold_no_place",
    ),
    ("MAX_STREAMS", "the_second_version_of_http_is_spoken"),
    (
        "MAX_PIECE_BYTES",
        "those_that_do_not_read_are_left_and_their_guests_stopped",
    ),
    ("MAX_LOG_BYTES", "a_log_that_takes_nothing_holds_nobody_up"),
    ("MIN_SPARSE_BYTES", "holes_leave_as_holes"),
    ("MAX_ZEROS_BYTES", "many_small_holes_do_not_add_up"),
    ("MAX_SPARSE_RUNS", "a_map_is_never_longer_than_readers_take"),
    (
        "MAX_SPARSE_RATIO",
        "a_map_is_never_longer_than_readers_take",
    ),
    ("MAX_MOUNTS", "an_instance_has_max_mounts"),
    ("MAX_VIRTUAL_BYTES", "a_virtual_file_has_max_virtual_bytes"),
    (
        "MAX_OPEN_VIRTUAL_BYTES",
        "open_files_of_the_host_hold_so_many_bytes_together",
    ),
    (
        "BLOCK_COST_BYTES",
        "what_is_held_never_passes_what_the_quotas_say",
    ),
    (
        "REMOVED_BYTES",
        "the_worst_objects_cost_their_host_a_constant",
    ),
    ("LINK_BYTES", "the_worst_objects_cost_their_host_a_constant"),
    ("DESCRIPTOR_BYTES", "descriptors_cost_what_is_counted"),
    ("MAX_RULES", "an_instance_has_max_rules"),
    ("MAX_TRACE_RANGES", "past_the_bound_the_nearest_are_joined"),
    ("MAX_TRACE_FILES", "a_trace_keeps_a_bounded_number_of_files"),
    (
        "MAX_TRACE_ALL_RANGES",
        "a_trace_keeps_a_bounded_number_of_ranges_of_all_files",
    ),
    ("MAX_PLACES", "an_instance_has_max_places"),
    ("MAX_VOLUMES", "volumes_have_a_bound_and_names"),
    ("MAX_SHOWN_DIRS", "directories_that_are_shown_have_a_bound"),
    ("MAX_TABLE_SLOTS", "the_table_has_max_table_slots"),
    (
        "MAX_ARGUMENT_BYTES",
        "case_80_arguments_that_wasi_cannot_pass_are_refused_by_name",
    ),
    (
        "MAX_HELD_OUTPUT_BYTES",
        "output_is_held_up_to_the_bound_and_no_further",
    ),
    (
        "MAX_LINE_BYTES",
        "lines_are_passed_on_whole_and_long_ones_in_pieces",
    ),
    ("MAX_TABLE_ELEMENTS", "tables_grow_to_the_bound"),
    ("MAX_POOLED_MEMORIES", "a_pool_has_its_bound"),
    ("MAX_CACHED_GUESTS", "the_guests_used_longest_ago_go"),
    ("MAX_CACHED_BYTES", "compiled_code_has_a_bound_in_bytes"),
    ("MAX_FUNCTION_BYTES", "functions_have_a_bound_in_bytes"),
    ("MAX_INSTANCES", "invalid_numbers_and_times_are_refused"),
    ("MAX_THREADS", "invalid_numbers_and_times_are_refused"),
];

fn path(raw: &[u8]) -> LayerPath {
    LayerPath::parse(raw).unwrap()
}

fn meta() -> Meta {
    Meta::with_mode(0o644)
}

#[test]
fn names_have_max_name_bytes() {
    let fs = Fs::new(&Image::empty());
    let root = fs.root().unwrap();
    let (fits, long) = (vec![b'n'; MAX_NAME_BYTES], vec![b'n'; MAX_NAME_BYTES + 1]);
    root.create_dir_at(&fits).unwrap();
    assert_eq!(root.create_dir_at(&long), Err(Errno::NameTooLong));
    assert_eq!(root.stat_at(Follow::No, &long), Err(Errno::NameTooLong));
    assert_eq!(root.rename_at(&fits, &root, &long), Err(Errno::NameTooLong));
    let below = [&long[..], b"/x"].concat();
    assert_eq!(root.stat_at(Follow::No, &below), Err(Errno::NameTooLong));
    assert_eq!(Name::new(&long), Err(NameError::TooLong));
}

#[test]
fn paths_have_max_path_bytes() {
    let fs = fs(&["f = f"]);
    let root = fs.root().unwrap();
    let to_f = |len: usize| [b"./".repeat((len - 1) / 2), b"f".to_vec()].concat();
    assert_eq!(to_f(MAX_PATH_BYTES).len(), MAX_PATH_BYTES);
    assert!(root.stat_at(Follow::No, &to_f(MAX_PATH_BYTES)).is_ok());
    let long = [b"/".to_vec(), to_f(MAX_PATH_BYTES)].concat();
    let long = [&b"."[..], &long].concat();
    assert_eq!(root.stat_at(Follow::No, &long), Err(Errno::NameTooLong));
}

#[test]
fn layer_paths_have_max_layer_path_bytes_and_depth() {
    let long = |len: usize| vec![b'n'; len];
    let names = |count: usize, len: usize| vec![long(len); count].join(&b'/');
    let whole = MAX_LAYER_PATH_BYTES / 256;
    assert!(LayerPath::parse(&names(whole, 255)).is_ok());
    let past = [names(whole, 255), b"/x".to_vec()].concat();
    assert_eq!(LayerPath::parse(&past), Err(NameError::PathTooLong));
    assert!(LayerPath::parse(&names(MAX_LAYER_DEPTH, 1)).is_ok());
    assert_eq!(
        LayerPath::parse(&names(MAX_LAYER_DEPTH + 1, 1)),
        Err(NameError::TooDeep)
    );
}

#[test]
fn link_targets_have_max_symlink_bytes() {
    let fs = Fs::new(&Image::empty());
    let root = fs.root().unwrap();
    let (fits, long) = (
        vec![b't'; MAX_SYMLINK_BYTES],
        vec![b't'; MAX_SYMLINK_BYTES + 1],
    );
    root.symlink_at(&fits, b"fits").unwrap();
    assert_eq!(&root.readlink_at(b"fits").unwrap()[..], fits);
    assert_eq!(root.symlink_at(&long, b"long"), Err(Errno::NameTooLong));
    let mut layer = LayerBuilder::new();
    layer.symlink(&path(b"fits"), meta(), &fits).unwrap();
    let refused = layer.symlink(&path(b"long"), meta(), &long).unwrap_err();
    assert!(
        matches!(refused, LayerError::SymlinkTarget { .. }),
        "{refused}"
    );
}

#[test]
fn a_walk_follows_max_symlinks() {
    let chain: String = (1..=MAX_SYMLINKS)
        .map(|n| format!("l{n} -> l{}\n", n - 1))
        .collect();
    let last = format!("l{}", MAX_SYMLINKS + 1);
    let fs = fs(&[&format!("l0 = end\n{chain}{last} -> l{MAX_SYMLINKS}")]);
    let root = fs.root().unwrap();
    let look = |path: &str| {
        root.stat_at(Follow::Yes, path.as_bytes())
            .map(|stat| stat.id)
    };
    assert_eq!(look(&format!("l{MAX_SYMLINKS}")), Ok(stat(&root, "l0").id));
    assert_eq!(look(&last), Err(Errno::Loop));
}

#[test]
fn files_have_max_file_bytes() {
    let fs = Fs::new(&Image::empty());
    let file = make(&fs.root().unwrap(), "f", "");
    file.set_size(MAX_FILE_BYTES).unwrap();
    assert_eq!(file.set_size(MAX_FILE_BYTES + 1), Err(Errno::FileTooLarge));
    assert_eq!(file.write_at(b"xx", MAX_FILE_BYTES - 1), Ok(1));
    assert_eq!(
        file.write_at(b"x", MAX_FILE_BYTES),
        Err(Errno::FileTooLarge)
    );
    let hole = |len: u64| -> Content {
        let pool = ChunkPool::new();
        let mut builder = ContentBuilder::new(&pool);
        builder.hole(len);
        builder.finish()
    };
    let mut layer = LayerBuilder::new();
    layer
        .file(&path(b"fits"), meta(), hole(MAX_FILE_BYTES))
        .unwrap();
    let refused = layer
        .file(&path(b"long"), meta(), hole(MAX_FILE_BYTES + 1))
        .unwrap_err();
    assert!(
        matches!(refused, LayerError::FileTooLarge { .. }),
        "{refused}"
    );
}

#[test]
fn a_file_has_max_links() {
    let fs = fs(&["f = f"]);
    let root = fs.root().unwrap();
    for n in 1..MAX_LINKS {
        root.link_at(b"f", &root, format!("l{n}").as_bytes())
            .unwrap();
    }
    assert_eq!(stat(&root, "f").nlink, MAX_LINKS);
    assert_eq!(root.link_at(b"f", &root, b"more"), Err(Errno::TooManyLinks));
    root.unlink_at(b"l1").unwrap();
    root.link_at(b"f", &root, b"more").unwrap();
    let mut layer = LayerBuilder::new();
    layer.file(&path(b"f"), meta(), Content::empty()).unwrap();
    for n in 1..MAX_LINKS {
        layer
            .hard_link(&path(format!("l{n}").as_bytes()), &path(b"f"))
            .unwrap();
    }
    let refused = layer
        .hard_link(&path(b"more"), &path(b"f"))
        .and_then(|()| layer.finish());
    assert!(
        matches!(refused, Err(LayerError::TooManyLinks { .. })),
        "{refused:?}"
    );
}

#[test]
fn chunks_have_chunk_bytes() {
    let pool = ChunkPool::new();
    let content = ContentBuilder::of(&pool, &pattern(0, 2 * CHUNK_BYTES + 1));
    let lengths: Vec<usize> = content
        .chunks()
        .map(|(_, chunk)| chunk.bytes().len())
        .collect();
    assert_eq!(lengths, [CHUNK_BYTES, CHUNK_BYTES, 1]);
    assert!(CHUNK_BYTES.is_power_of_two() && CHUNK_BYTES.is_multiple_of(BLOCK_BYTES));
}

#[test]
fn copy_up_takes_block_bytes() {
    let fs = fs(&["f * 1000000"]);
    edit(&fs.root().unwrap(), "f")
        .write_at(b"x", 500_000)
        .unwrap();
    assert_eq!(fs.usage().private_bytes, BLOCK_BYTES as u64);
}

#[test]
fn images_have_max_layers() {
    let layer = LayerBuilder::new().finish().unwrap();
    let mut layers = vec![layer; MAX_LAYERS];
    assert_eq!(Image::new(&layers).unwrap().layers().len(), MAX_LAYERS);
    layers.push(layers[0].clone());
    let refused = Image::new(&layers).unwrap_err();
    assert!(
        matches!(refused, ImageError::TooManyLayers { .. }),
        "{refused}"
    );
}

#[test]
fn layers_have_max_layer_entries() {
    assert_eq!(SourceOptions::default().max_entries, MAX_LAYER_ENTRIES);
    // The same rule at a bound that a test can reach; implied parents count.
    let mut layer = LayerBuilder::new().max_entries(3);
    layer.dir(&path(b"a"), meta()).unwrap();
    layer.file(&path(b"b/c"), meta(), Content::empty()).unwrap();
    let refused = layer.whiteout(&path(b"d")).unwrap_err();
    assert!(
        matches!(refused, LayerError::TooManyEntries { .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("3 entries"), "{refused}");
}

#[test]
fn attributes_have_max_xattr_bytes() {
    let with = |len: usize| {
        let name: Box<[u8]> = b"user.a"[..].into();
        let value = vec![7; len - name.len()].into();
        let attributes = Some(Arc::new(vec![(name, value)]));
        LayerBuilder::new().dir(
            &path(b"d"),
            Meta {
                xattrs: attributes,
                ..meta()
            },
        )
    };
    with(MAX_XATTR_BYTES - 1).unwrap();
    let refused = with(MAX_XATTR_BYTES + 1).unwrap_err();
    assert!(matches!(refused, LayerError::Xattrs { .. }), "{refused}");
}

#[test]
fn private_bytes_default_to_default_max_bytes() {
    let fs = Fs::new(&Image::empty());
    assert_eq!(fs.quota().max_bytes, DEFAULT_MAX_BYTES);
    // A bound that a test can reach is the same rule.
    let fs = Fs::builder(&Image::empty()).max_bytes(10).build();
    let file = make(&fs.root().unwrap(), "f", "0123456789");
    assert_eq!(file.append(b"x"), Err(Errno::NoSpace));
    assert_eq!(bytes(&file), b"0123456789");
}

#[test]
fn objects_default_to_default_max_inodes() {
    let fs = Fs::new(&Image::empty());
    let root = fs.root().unwrap();
    for n in 0..DEFAULT_MAX_INODES {
        root.symlink_at(b"x", n.to_string().as_bytes()).unwrap();
    }
    assert_eq!(fs.usage().inodes, DEFAULT_MAX_INODES);
    assert_eq!(root.create_dir_at(b"more"), Err(Errno::NoSpace));
    root.unlink_at(b"0").unwrap();
    root.create_dir_at(b"more").unwrap();
    // Further names are counted apart.
    for n in 0..3 {
        root.link_at(b"1", &root, format!("l{n}").as_bytes())
            .unwrap();
    }
    let fs = Fs::builder(&Image::empty()).max_inodes(1).build();
    let root = fs.root().unwrap();
    drop(make(&root, "f", ""));
    root.link_at(b"f", &root, b"g").unwrap();
    assert_eq!(root.link_at(b"f", &root, b"h"), Err(Errno::NoSpace));
}

#[test]
fn changed_objects_default_to_default_max_changed() {
    let fs = Fs::new(&Image::empty());
    assert_eq!(fs.quota().max_changed, DEFAULT_MAX_CHANGED);
    // A bound that a test can reach is the same rule; the root is an object.
    let fs = Fs::builder(&Image::empty()).max_changed(0).build();
    let root = fs.root().unwrap();
    assert_eq!(root.create_dir_at(b"d"), Err(Errno::NoSpace));
    let fs = Fs::builder(&Image::empty()).max_changed(1).build();
    fs.root().unwrap().create_dir_at(b"d").unwrap();
    assert_eq!(fs.usage().changed, 1);
}

#[test]
fn descriptors_default_to_default_max_open() {
    let fs = fs(&["f = f"]);
    let root = fs.root().unwrap();
    let mut open: Vec<_> = (1..DEFAULT_MAX_OPEN).map(|_| view(&root, "f")).collect();
    let one_more = || root.open_at(Follow::Yes, b"f", OpenFlags::empty(), Access::READ);
    assert_eq!(one_more().err(), Some(Errno::TooManyOpen));
    assert_eq!(root.try_clone().err(), Some(Errno::TooManyOpen));
    // What cannot be opened is not made or cut either.
    let make = root.open_at(Follow::Yes, b"new", OpenFlags::CREATE, Access::WRITE);
    assert_eq!(make.err(), Some(Errno::TooManyOpen));
    assert!(root.stat_at(Follow::No, b"new").is_err());
    let cut = root.open_at(Follow::Yes, b"f", OpenFlags::TRUNCATE, Access::WRITE);
    assert_eq!(cut.err(), Some(Errno::TooManyOpen));
    assert_eq!(stat(&root, "f").size, 1);
    open.pop();
    assert!(one_more().is_ok());
}

#[test]
fn layers_default_to_default_max_layer_bytes_and_max_expansion_ratio() {
    let options = SourceOptions::default();
    assert_eq!(options.max_bytes, DEFAULT_MAX_LAYER_BYTES);
    assert_eq!(options.max_ratio, MAX_EXPANSION_RATIO);
}

#[cfg(feature = "tar")]
mod archives {
    use stratafs::layer::EntryBody;
    use stratafs::limits::{
        ENTRY_BYTES, MAX_METADATA_RATIO, MAX_SPARSE_SEGMENTS, MAX_TAR_EXTENSION_BYTES,
        METADATA_FLOOR_BYTES, RATIO_FLOOR_BYTES,
    };
    use stratafs::source::tar;

    use super::*;
    use crate::support::archive::{Archive, Head};

    #[test]
    fn a_layer_has_max_bytes() {
        let archive = Archive::new().file("a", "12345").file("b", "67890").end();
        let import = |max_bytes| {
            let options = SourceOptions {
                max_bytes,
                ..SourceOptions::default()
            };
            tar(&ChunkPool::new(), &archive[..], &options)
        };
        assert!(import(10).is_ok());
        let refused = import(9).unwrap_err().to_string();
        assert!(refused.contains('9') && refused.contains('b'), "{refused}");
    }

    /// An archive whose global header gives each of `count` files an attribute
    /// of 60,000 bytes.
    fn heavy(count: u64) -> Vec<u8> {
        let value = vec![b'v'; 60_000];
        let mut archive = Archive::new().global(&[("SCHILY.xattr.user.a", &value)]);
        for number in 0..count {
            archive = archive.file(number.to_string(), "");
        }
        archive.end()
    }

    #[test]
    fn a_global_header_is_held_once_and_counts_for_each_entry() {
        let import = |bytes: &[u8]| tar(&ChunkPool::new(), bytes, &SourceOptions::default());
        let layer = import(&heavy(3)).unwrap();
        let held: Vec<_> = layer
            .entries()
            .filter_map(|entry| match entry.body {
                EntryBody::File { meta, .. } => meta.xattrs.clone(),
                _ => None,
            })
            .collect();
        assert_eq!(held.len(), 3);
        assert!(held.windows(2).all(|two| Arc::ptr_eq(&two[0], &two[1])));
        let count = METADATA_FLOOR_BYTES / (60_000 + ENTRY_BYTES) + 1;
        let bytes = heavy(count);
        assert!(bytes.len() as u64 * MAX_METADATA_RATIO < METADATA_FLOOR_BYTES);
        let refused = import(&bytes).unwrap_err().to_string();
        let limit = METADATA_FLOOR_BYTES.to_string();
        assert!(refused.contains(&limit), "{refused}");
        assert!(refused.contains("metadata"), "{refused}");
    }

    #[test]
    fn metadata_counts_entry_bytes_names_targets_and_attributes() {
        let mut builder = LayerBuilder::new();
        builder.dir(&path(b"abc/de"), meta()).unwrap();
        assert_eq!(builder.metadata_bytes(), 2 * ENTRY_BYTES + 5);
        builder.symlink(&path(b"l"), meta(), b"target").unwrap();
        assert_eq!(builder.metadata_bytes(), 3 * ENTRY_BYTES + 12);
        let own = Meta {
            xattrs: Some(Arc::new(vec![(b"user.a"[..].into(), b"12"[..].into())])),
            ..meta()
        };
        builder.dir(&path(b"abc"), own).unwrap();
        assert_eq!(builder.metadata_bytes(), 4 * ENTRY_BYTES + 12 + 3 + 8);
        // A path that only a link names is held as well.
        builder.hard_link(&path(b"m"), &path(b"x/y")).unwrap();
        assert!(builder.metadata_bytes() > 5 * ENTRY_BYTES + 24);
    }

    #[cfg(feature = "oci")]
    #[test]
    fn names_of_members_have_max_oci_member_bytes() {
        use stratafs::limits::MAX_OCI_MEMBER_BYTES;
        let name = vec![b'n'; MAX_TAR_EXTENSION_BYTES as usize];
        let mut archive = Archive::new().file("oci-layout", "{}");
        for number in 0..MAX_OCI_MEMBER_BYTES / MAX_TAR_EXTENSION_BYTES {
            let mut name = name.clone();
            name[0] = b'0' + number as u8;
            archive = archive.long(b'L', &name[1..]).file("short", "");
            archive = archive.long(b'L', &name[..64]).file("short", "");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |archive: Archive| std::fs::write(file.path(), archive.end()).unwrap();
        let open = || stratafs::source::OciImage::open(file.path(), &SourceOptions::default());
        // The same name again takes no more room, and is counted all the same.
        write(archive.clone());
        let refused = open().err().map(|error| error.to_string());
        assert!(
            refused
                .as_ref()
                .is_some_and(|text| text.contains(&MAX_OCI_MEMBER_BYTES.to_string())),
            "{refused:?}"
        );
        write(
            Archive::new()
                .file("oci-layout", "{}")
                .long(b'L', &name[1..])
                .file("short", ""),
        );
        assert!(open().unwrap().is_none());
    }

    #[test]
    fn extensions_have_max_tar_extension_bytes() {
        let max = MAX_TAR_EXTENSION_BYTES as usize;
        // A comment is read and means nothing.
        let comment = |record: usize| {
            let value = vec![b'c'; record - "1048576 comment=\n".len()];
            Archive::new().pax(&[("comment", &value)]).file("f", "text")
        };
        assert_eq!(comment(max).listed().lines().count(), 1);
        let refused = comment(max + 512).refused();
        assert!(refused.contains(&max.to_string()), "{refused}");
        let long = Archive::new()
            .long(b'L', &vec![b'n'; max + 1])
            .file("f", "")
            .refused();
        assert!(long.contains(&max.to_string()), "{long}");
    }

    #[test]
    fn maps_have_max_sparse_segments() {
        // GNU sparse 1.0: the map is text in front of the data.
        let count = MAX_SPARSE_SEGMENTS + 1;
        let records: &[(&str, &[u8])] = &[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"99999999"),
            ("GNU.sparse.name", b"f"),
        ];
        let mut map = format!("{count}\n").into_bytes();
        map.resize(512, 0);
        let archive = Archive::new().pax(records).with(Head::new(b'0', "f"), &map);
        let refused = archive.refused();
        assert!(
            refused.contains(&MAX_SPARSE_SEGMENTS.to_string()),
            "{refused}"
        );
    }

    /// An archive of one file of zeros, compressed.
    fn zeros(len: u64) -> Vec<u8> {
        use std::io::Write;
        let level = flate2::Compression::best();
        let mut out = flate2::write::GzEncoder::new(Vec::new(), level);
        out.write_all(&Head::new(b'0', "zeros").size(len).bytes())
            .unwrap();
        let mib = vec![0; 1024 * 1024];
        (0..len / mib.len() as u64).for_each(|_| out.write_all(&mib).unwrap());
        out.write_all(&[0; 1024]).unwrap();
        out.finish().unwrap()
    }

    #[cfg(feature = "gzip")]
    #[test]
    fn archives_expand_by_max_expansion_ratio_from_ratio_floor_bytes_on() {
        let import = |archive: &[u8]| tar(&ChunkPool::new(), archive, &SourceOptions::default());
        let floor = RATIO_FLOOR_BYTES;
        let under = zeros(floor - 1024 * 1024);
        assert!(
            under.len() as u64 * MAX_EXPANSION_RATIO < floor / 2,
            "{}",
            under.len()
        );
        assert!(import(&under).is_ok());
        let refused = import(&zeros(2 * floor)).unwrap_err().to_string();
        assert!(
            refused.contains(&MAX_EXPANSION_RATIO.to_string()),
            "{refused}"
        );
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn windows_have_max_zstd_window_log() {
        use std::io::Write;
        use stratafs::limits::MAX_ZSTD_WINDOW_LOG;
        let compressed = |log: u32| {
            let mut out = zstd::Encoder::new(Vec::new(), 1).unwrap();
            out.window_log(log).unwrap();
            out.write_all(&Archive::new().file("f", "text").end())
                .unwrap();
            out.finish().unwrap()
        };
        let import =
            |archive: &[u8]| tar(&ChunkPool::new(), archive, &SourceOptions::default()).map(drop);
        assert!(import(&compressed(MAX_ZSTD_WINDOW_LOG)).is_ok());
        let refused = import(&compressed(MAX_ZSTD_WINDOW_LOG + 1))
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("memory") || refused.contains("window"),
            "{refused}"
        );
    }
}

#[test]
fn bound_free_blocks_and_quota_bytes_per_block() {
    let fs = Fs::builder(&Image::empty())
        .max_bytes(10 * QUOTA_BYTES_PER_BLOCK)
        .build();
    let root = fs.root().unwrap();
    let open = |name: &[u8]| {
        root.open_at(Follow::No, name, OpenFlags::CREATE, Access::all())
            .unwrap()
    };
    let file = open(b"sparse");
    let block = |number: u64| file.write_at(b"x", number * BLOCK_BYTES as u64);
    // The first block of a file is not counted.
    for number in 0..=FREE_BLOCKS + 10 {
        assert_eq!(block(number), Ok(1), "block {number}");
    }
    assert_eq!(block(FREE_BLOCKS + 11), Err(Errno::NoSpace));
    assert_eq!(block(3), Ok(1), "a block that is there");
    assert_eq!(open(b"another").write_at(b"x", 0), Ok(1));
    assert_eq!(file.set_size(BLOCK_BYTES as u64), Ok(()));
    assert_eq!(block(FREE_BLOCKS + 11), Ok(1));
    assert_eq!(fs.check(), Ok(()));
}
