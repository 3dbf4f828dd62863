import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_vs_ft.errors import UserError
from rag_vs_ft.language import breaks, content_words, detect, language, languages, split_sentences, stemmer, words


def test_english_is_what_an_unknown_language_is_read_as():
    assert language() == language("en") == language("")
    assert language("en").name == "English" and "the" in language("en").stop_words


def test_a_language_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(UserError, match="'xx'") as refused:
        language("xx")
    assert "en" in refused.value.hint and "ja" in refused.value.hint


def test_every_entry_of_the_table_can_be_used():
    for code, spoken in languages().items():
        assert spoken.code == code and stemmer(spoken)("word")
        assert spoken.unspaced or spoken.stop_words
        assert all(word == word.lower() for word in spoken.stop_words)
        assert split_sentences("Eins. Zwei 2.5.", spoken) == ["Eins.", "Zwei 2.5."]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Set max_surge to 33%!", ["set", "max_surge", "to", "33"]),
        ("Größe: naïve CAFÉ", ["größe", "naïve", "café"]),
        ("FastAPIを使う", ["fastapi", "を", "使", "う"]),
        ("部署在Azure上。", ["部", "署", "在", "azure", "上"]),
        ("", []),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_content_words_leave_out_what_says_nothing_and_keep_names_whole():
    found = content_words("How do I upgrade the node-pool to v1.27 when a test fails?", language())
    assert found == {"upgrade", "node-pool", "v1.27", "test", "fails"}
    assert content_words("Wie lange bleibt der Tresor?", language("de")) == {"lange", "bleibt", "tresor"}


def test_stems():
    assert stemmer(language())("policies") == stemmer(language())("policy")
    assert stemmer(language("de"))("häuser") == stemmer(language("de"))("haus")
    assert stemmer(language("ja"))("サーバー") == "サーバー"


@pytest.mark.parametrize(
    ("code", "text", "sentences"),
    [
        ("en", "Use v1.27, e.g. on AKS. It works! Does it?", ["Use v1.27, e.g. on AKS.", "It works!", "Does it?"]),
        ("en", "Call `a. B` now. Then stop.", ["Call `a. B` now.", "Then stop."]),
        ("en", 'He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("en", "Note: One. Two.", ["One.", "Two."]),
        ("en", "It ends. it goes on.", ["It ends. it goes on."]),
        ("de", "Am 3. Oktober, z.B. Montag. Dann nicht.", ["Am 3. Oktober, z.B. Montag.", "Dann nicht."]),
        ("de", "Das gilt bzw. Nr. 5 gilt. Ärger gibt es.", ["Das gilt bzw. Nr. 5 gilt.", "Ärger gibt es."]),
        ("ja", "これは文です。次の文です！「引用。」終わり", ["これは文です。", "次の文です！", "「引用。」", "終わり"]),
        ("zh", "第一句。第二句？", ["第一句。", "第二句？"]),
        ("ru", "Это т.е. Так. Ёлка.", ["Это т.е. Так.", "Ёлка."]),
        ("hi", "यह पहला है। यह दूसरा है।", ["यह पहला है।", "यह दूसरा है।"]),
        ("ar", "هل هذا؟ نعم هذا.", ["هل هذا؟", "نعم هذا."]),
    ],
)
def test_sentences(code, text, sentences):
    assert split_sentences(text, language(code)) == sentences


@given(st.text(max_size=200), st.sampled_from(sorted(languages())))
def test_splitting_a_text_loses_nothing_but_white_space(text, code):
    kept = "".join("".join(split_sentences("x" + text, language(code))).split())
    assert kept == "".join(("x" + text).split())


def test_a_text_is_cut_off_after_a_sentence_or_line():
    text = "One. Two!\nThree。四"
    assert [text[:end] for end in breaks(text)] == ["One.", "One. Two!", "One. Two!\nThree。"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("The vault keeps its keys for 90 days, and you can restore them with a command.", "en"),
        ("Der Tresor behält die Schlüssel 90 Tage, und Sie können sie mit einem Befehl wiederherstellen.", "de"),
        ("Le coffre garde les clés pendant 90 jours, et vous pouvez les restaurer avec une commande.", "fr"),
        ("El almacén guarda las claves durante 90 días y se pueden restaurar con un comando.", "es"),
        ("De kluis bewaart de sleutels 90 dagen en u kunt ze met een opdracht herstellen.", "nl"),
        ("Хранилище хранит ключи 90 дней, и их можно восстановить одной командой, если это нужно.", "ru"),
        ("Сховище зберігає ключі 90 днів, і їх можна відновити однією командою, якщо це потрібно.", "uk"),
        ("キーは90日間保持され、コマンドで復元できます。", "ja"),
        ("密钥保留90天，可以用 `az keyvault recover` 命令恢复。", "zh"),
        ("키는 90일 동안 보관되며 명령으로 복원할 수 있습니다.", "ko"),
        ("กุญแจจะถูกเก็บไว้ 90 วัน", "th"),
        ("FastAPI と Pydantic を使う OpenAPI JSON Schema", "ja"),
        ("```python\nfor the in of:\n    and to is\n```\nDer Befehl ist nicht mit dem Server verbunden.", "de"),
        # Function words of Czech and Polish in English texts: pod, s, k, a, to, one.
        ("Pods > Restart\nA Pod's policy defaults to Always. The kubelet waits 10s, 20s, 40s before it restarts.", "en"),
        ("A Job represents a one-off task, whereas each CronJob repeats according to a schedule.", "en"),
        ("How do I run my Pod under ten nodes?", "en"),
        ("RBAC uses the k8s.io API group to drive decisions about a pod", "en"),
        ("Jak vytvořím pod v clusteru a jak ho smažu?", "cs"),
        ("", ""),
        ("az aks create --name prod", ""),
        ("12345 !?", ""),
        ("Some text before\n\n| A | B |\n| --- | --- |\n| A | B, C; D, E, I |\n\nTable e, row a", "en"),
        ("Enable a setting to control a replica's readiness.", "en"),
    ],
)
def test_the_language_of_a_text(text, code):
    assert detect(text) == code


@given(st.text(max_size=300))
def test_any_text_has_a_language_of_the_table_or_none(text):
    assert detect(text) in ("", *languages())
