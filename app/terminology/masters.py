"""What each KIND of code master is, as a person looks for it; the importers' own list is `app.terminology.importers.KINDS`."""

STARTER = "starter"
MASTERS = {
    STARTER: "the tables that come with Hyojun; no file",
    "nmain": "病名基本テーブル, MEDIS-DC",
    "mdfy": "修飾語テーブル, MEDIS-DC",
    "index": "索引テーブル, MEDIS-DC",
    "ssk-disease": "傷病名マスター (b_), 支払基金",
    "ssk-modifier": "修飾語マスター (z_), 支払基金",
    "ssk-drug": "医薬品マスター (y_), 支払基金",
    "price": "薬価基準収載品目リスト, 厚生労働省",
    "jfagy": "JFAGYアレルゲンコード (CSV, xlsx)",
    "jlac10": "JLAC10 まとめ表 (code, display)",
    "hot": "HOTコードマスター, MEDIS-DC",
    "yj": "YJコード and 品名 in columns",
    "generic": "一般名処方マスタ, 厚生労働省",
    "usage": "電子処方箋 用法マスタ, 厚生労働省",
    "codesystem": "a FHIR CodeSystem (JSON)",
}
